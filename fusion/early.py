"""Early fusion: features of all modalities side by side on one time grid, then one encoder (EF-LSTM)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from fusion.encoders import PoolingName, UnimodalEncoder
from fusion.grid import common_grid
from fusion.head import FusionHead
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence


class EarlyFusion(FusionHead):
    """Feature-level concatenation on a common time grid, one sequence encoder, one output layer.

    Williams et al., "Recognizing Emotions in Video Using Multimodal DNN Feature Fusion", Challenge-HML at ACL
    2018: early fusion by concatenation of the features of each step, read by an LSTM.

    Deviations: the modalities are put on a grid of `grid_steps` steps inside the head, instead of being aligned
    to words beforehand, so unequal lengths are taken; modalities that are aligned already keep their steps with
    `grid_steps=None`. Each step also carries one presence flag per modality. A missing modality contributes zeros and
    flag 0, a present one its features and flag 1; the flag has its own weights in the encoder's first linear map, so
    absence is a learned vector there, not an all-zero measurement.
    The LSTM reads both ways and is pooled by attention by default, instead of one way with its last state.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of the encoder's state, both directions together.
        encoder: what reads the concatenated sequence.
        pooling: how steps become one vector.
        grid_steps: length of the grid; None takes the inputs' own steps, which then must be the same in all modalities
            (the head `needs_alignment`), and a step that a modality lacks has flag 0 for it.
        dropout: on the pooled vector, and inside the encoder.

    Raises:
        ValueError: `grid_steps` below 1, unknown `encoder` or `pooling`.
    """

    name = "early"
    family = "early"
    paper = (
        'Williams, Kleinegesse, Comanescu & Radu, "Recognizing Emotions in Video Using Multimodal DNN Feature '
        'Fusion", Grand Challenge and Workshop on Human Multimodal Language at ACL 2018'
    )

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        encoder: Literal["lstm", "gru", "transformer"] = "lstm",
        pooling: PoolingName = "attention",
        grid_steps: int | None = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if grid_steps is not None and grid_steps < 1:
            raise ValueError(f"grid_steps must be at least 1, not {grid_steps}; None keeps the steps of aligned inputs")
        if encoder not in ("lstm", "gru", "transformer"):
            raise ValueError(f"encoder must be one of lstm, gru, transformer, not {encoder!r}")
        self.grid_steps = grid_steps
        self.needs_alignment = grid_steps is None
        features = sum(self.input_dims.values()) + len(self.input_dims)
        self.encoder = UnimodalEncoder(features, hidden_dim, encoder=encoder, pooling=pooling, dropout=dropout)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Concatenate on the grid, encode, predict."""
        fused: Tensor = self.encoder(self.concatenated(inputs))
        return FusionOutput(prediction=self.output(fused), representations={"fusion": fused})

    def concatenated(self, inputs: dict[str, ModalitySequence]) -> ModalitySequence:
        """`(B, grid_steps or T, sum of D + M)`: features in the order of `modalities`, then one flag for each."""
        grid = inputs if self.grid_steps is None else common_grid(inputs, self.grid_steps)
        flags = torch.stack([sequence.mask for sequence in grid.values()], dim=-1)  # (B, T, M)
        features = [sequence.values for sequence in grid.values()]
        return ModalitySequence(torch.cat([*features, flags.to(features[0].dtype)], dim=-1), flags.any(dim=-1))
