"""Late fusion: each modality predicts alone, and the predictions are combined by weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from fusion.encoders import EncoderName, PoolingName, UnimodalEncoder
from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.pooling import masked_softmax
from fusion.sequence import ModalitySequence

CombinationName = Literal["learned", "gated", "mean"]


class UnimodalPredictor(nn.Module):
    """One modality → its vector and a prediction from it alone.

    Args:
        input_dim: features per step.
        output_dim: number of outputs `O`.
        hidden_dim: size `H` of the vector.
        encoder: sequence encoder.
        pooling: how steps become one vector.
        dropout: on the vector, and inside the encoder.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        hidden_dim: int = 64,
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder = UnimodalEncoder(input_dim, hidden_dim, encoder=encoder, pooling=pooling, dropout=dropout)
        self.output = nn.Linear(hidden_dim, output_dim)

    def forward(self, sequence: ModalitySequence) -> tuple[Tensor, Tensor]:
        """`(B, T, input_dim)` → vector `(B, H)` and prediction `(B, O)`; zeros where the modality is missing."""
        vector: Tensor = self.encoder(sequence)
        return vector, self.output(vector).masked_fill(~sequence.present.unsqueeze(-1), 0.0)


class LateFusion(FusionHead):
    """Unimodal predictions, combined by weights that are learned and reported.

    `prediction = sum_m w_m * unimodal_m`, with weights that are non-negative and sum to 1 over the modalities
    present in a clip. Decision-level fusion as in Snoek, Worring & Smeulders, "Early versus Late Fusion in
    Semantic Video Analysis", ACM Multimedia 2005, section 2.2. The weights come from one of

    - `"learned"`: softmax over one logit per modality, the same for all clips;
    - `"gated"`: softmax over one score per modality, computed from the clip's own representation of that
      modality: the gating network of Jacobs et al., "Adaptive Mixtures of Local Experts", Neural Computation
      1991, with one scorer per expert;
    - `"mean"`: the average.

    The unimodal predictions are returned in `unimodal`, so a training loop can supervise each of them with the
    task's own loss, beside the fused one. The head itself does not know the task and adds no loss.

    For classification the logits are combined, which multiplies the modalities' class probabilities, each raised
    to its weight, and renormalises.

    Deviations: the source learns the combination with a support vector machine after the unimodal classifiers
    are trained; here it is learned together with them (`StackingFusion` learns it afterwards). A missing modality
    drops out of the softmax.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of each unimodal vector.
        encoder: sequence encoder of every modality.
        pooling: how steps become one vector.
        combination: where the weights come from.
        dropout: on the unimodal vectors.

    Raises:
        ValueError: unknown `combination`, `encoder` or `pooling`.
    """

    name = "late"
    family = "late"
    paper = 'Snoek, Worring & Smeulders, "Early versus Late Fusion in Semantic Video Analysis", ACM Multimedia 2005'

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        combination: CombinationName = "learned",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if combination not in ("learned", "gated", "mean"):
            raise ValueError(f"combination must be one of learned, gated, mean, not {combination!r}")
        self.combination = combination
        self.predictors = nn.ModuleDict(
            {
                key: UnimodalPredictor(
                    dim, output_dim, hidden_dim=hidden_dim, encoder=encoder, pooling=pooling, dropout=dropout
                )
                for key, dim in self.input_dims.items()
            }
        )
        # A softmax over one modality is 1 whatever its logit: parameters behind it would never train.
        several = len(self.input_dims) > 1
        self.logits = nn.Parameter(torch.zeros(len(self.input_dims))) if several and combination == "learned" else None
        self.gates = nn.ModuleDict(
            {key: nn.Linear(hidden_dim, 1) for key in self.modalities if several and combination == "gated"}
        )

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict from each modality, then combine."""
        vectors: dict[str, Tensor] = {}
        unimodal: dict[str, Tensor] = {}
        for key, sequence in inputs.items():
            vectors[key], unimodal[key] = self.predictors[key](sequence)
        weights = masked_softmax(self._scores(vectors), stack_present(inputs))  # (B, M)
        prediction = torch.einsum("bm,bmo->bo", weights, torch.stack(list(unimodal.values()), dim=1))
        return FusionOutput(
            prediction=prediction,
            unimodal=unimodal,
            weights=dict(zip(vectors, weights.unbind(dim=1), strict=True)),
            representations=vectors,
        )

    def _scores(self, vectors: dict[str, Tensor]) -> Tensor:
        """`(B, M)` scores whose softmax over the present modalities is the weights."""
        first = next(iter(vectors.values()))
        if self.logits is not None:
            return self.logits.expand(first.shape[0], -1)
        if self.gates:
            return torch.cat([self.gates[key](vector) for key, vector in vectors.items()], dim=1)
        return first.new_zeros(first.shape[0], len(vectors))
