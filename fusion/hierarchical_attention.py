"""Hierarchical attention: over the steps of each modality, then over the modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from fusion.encoders import EncoderName, UnimodalEncoder
from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.pooling import AttentionPooling
from fusion.readout import ModalityPooling
from fusion.sequence import ModalitySequence


class HierarchicalAttentionFusion(FusionHead):
    """Attention pooling of steps into modalities, and of modalities into a clip; both weights can be read.

    Yang et al., "Hierarchical Attention Networks for Document Classification", NAACL 2016, eq. 5-7 at the lower level
    and eq. 8-10 at the upper one, with steps and modalities in the place of words and sentences. `weights` are the
    upper level's; `step_weights` gives the lower level's.

    A missing modality drops out of the upper softmax.

    Deviations: the source reads the sequence of sentences with a GRU before the upper attention; modalities have
    no order, so each vector passes a tanh layer of its modality instead, which brings all to one space.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of the vectors at both levels.
        encoder: sequence encoder of every modality.
        dropout: on the unimodal vectors.

    Raises:
        ValueError: unknown `encoder`.
    """

    name = "hierarchical_attention"
    family = "attention"
    paper = (
        'Yang, Yang, Dyer, He, Smola & Hovy, "Hierarchical Attention Networks for Document Classification", NAACL 2016'
    )

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        encoder: EncoderName = "gru",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        self.encoders = nn.ModuleDict(
            {
                key: UnimodalEncoder(dim, hidden_dim, encoder=encoder, pooling="attention", dropout=dropout)
                for key, dim in self.input_dims.items()
            }
        )
        self.project = nn.ModuleDict(
            {key: nn.Sequential(nn.Linear(hidden_dim, hidden_dim), nn.Tanh()) for key in self.modalities}
        )
        self.over_modalities = ModalityPooling(hidden_dim, self.modalities)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Attend to steps, attend to modalities, predict."""
        vectors: dict[str, Tensor] = {}
        for key, sequence in inputs.items():
            vector = self.project[key](self.encoders[key](sequence))
            vectors[key] = vector.masked_fill(~sequence.present.unsqueeze(-1), 0.0)
        fused, weights = self.over_modalities(vectors, stack_present(inputs))
        return FusionOutput(
            prediction=self.output(fused), weights=weights, representations={**vectors, "fusion": fused}
        )

    def step_weights(self, inputs: Mapping[str, ModalitySequence]) -> dict[str, Tensor]:
        """How much each step counts within its modality.

        Args:
            inputs: sequences of any of the head's modalities.

        Returns:
            Per modality `(B, T)`, in the order of the real steps (gaps closed), summing to 1 over them; zeros
            behind them, and everywhere where the modality is missing.
        """
        weights: dict[str, Tensor] = {}
        for key, sequence in inputs.items():
            reader = cast(UnimodalEncoder, self.encoders[key])
            steps = reader.encoder(sequence.compacted().zeroed())
            weights[key] = cast(AttentionPooling, reader.pooling).weights(steps)
        return weights
