"""Late fusion of representations: a multilayer perceptron over the unimodal vectors (LF-DNN)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from fusion.encoders import EncoderName, PoolingName, UnimodalEncoder
from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence


class LateMLPFusion(FusionHead):
    """Unimodal vectors side by side, then a multilayer perceptron.

    Known as LF-DNN; Cambria et al., "Benchmarking Multimodal Sentiment Analysis", CICLing 2017, concatenates the
    features that unimodal networks have learned.

    Deviations: the unimodal networks are trained together with the perceptron. The vectors go with one presence
    flag per modality: a missing modality is zeros with flag 0, and since the flag has weights of its own in the
    first layer, absence is a learned vector there and not an all-zero representation.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of each unimodal vector and of the two hidden layers.
        encoder: sequence encoder of every modality.
        pooling: how steps become one vector.
        dropout: on the unimodal vectors and between the layers.

    Raises:
        ValueError: unknown `encoder` or `pooling`.
    """

    name = "lf_dnn"
    family = "late"
    paper = (
        'Cambria, Hazarika, Poria, Hussain & Subramanyam, "Benchmarking Multimodal Sentiment Analysis", CICLing 2017'
    )

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        self.encoders = nn.ModuleDict(
            {
                key: UnimodalEncoder(dim, hidden_dim, encoder=encoder, pooling=pooling, dropout=dropout)
                for key, dim in self.input_dims.items()
            }
        )
        self.perceptron = nn.Sequential(
            nn.Linear((hidden_dim + 1) * len(self.input_dims), hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
        )
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Encode, concatenate, predict."""
        vectors = {key: self.encoders[key](sequence) for key, sequence in inputs.items()}
        joined = torch.cat(list(vectors.values()), dim=1)
        fused = self.perceptron(torch.cat([joined, stack_present(inputs).to(joined.dtype)], dim=1))
        return FusionOutput(prediction=self.output(fused), representations={**vectors, "fusion": fused})
