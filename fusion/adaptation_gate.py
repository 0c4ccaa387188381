"""Multimodal adaptation gate: the other modalities shift the primary's states, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fusion.attention import TransformerLayer
from fusion.encoders import EncoderName, build_encoder
from fusion.grid import resample
from fusion.head import FusionHead
from fusion.output import FusionOutput
from fusion.pooling import masked_mean
from fusion.primary import choose_primary
from fusion.sequence import ModalitySequence
from fusion.tokens import ModalityTokens, prepend


class MultimodalAdaptationGate(FusionHead):
    """A transformer over the primary modality with an adaptation gate between two of its layers.

    Rahman et al., "Integrating Multimodal Information in Large Pretrained Transformers", ACL 2020. A
    learned [CLS] step stands before the primary's steps; after `layers_below` layers `AdaptationGate` shifts all
    states, `layers_above` layers follow, and the [CLS] state predicts.

    Deviations:
        - Unaligned input: in place of the paper's word alignment each other modality is resampled to the steps of
          the primary, clip by clip, as in `fusion.common_grid` (both span the same time). [CLS] meets the mean
          over the clip, where the paper has zeros: so a clip without the primary is still heard, through [CLS].
        - The transformer is trained from scratch on top of the given features; the other modalities pass through
          a sequence encoder first (`encoder="none"`: the paper's linear map alone).
        - Any primary, any number of others; a missing one adds nothing to the shift, and with none there is none.

    Args:
        input_dims: features per modality.
        output_dim: outputs `O`.
        hidden_dim: size `H` of the states; a multiple of `heads`.
        primary: whose states are shifted; `"text"` if there is one, else the first in sorted order, when None.
        beta: how long the shift may be, relative to the state.
        layers_below: layers before the gate.
        layers_above: layers after it.
        heads: attention heads.
        encoder: sequence encoder of the other modalities.
        max_steps: a longer primary is pooled to this many steps before the first layer.
        dropout: in layers and gate.

    Raises:
        ValueError: unknown `primary`, `beta` not positive, or `heads` does not divide `hidden_dim`.
    """

    name = "mag"
    family = "attention"
    paper = 'Rahman et al., "Integrating Multimodal Information in Large Pretrained Transformers", ACL 2020'

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        primary: str | None = None,
        beta: float = 1.0,
        layers_below: int = 1,
        layers_above: int = 1,
        heads: int = 4,
        encoder: EncoderName = "gru",
        max_steps: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        self.primary = choose_primary(self.modalities, primary)
        others = {key: dim for key, dim in self.input_dims.items() if key != self.primary}
        self.tokens = ModalityTokens(
            {self.primary: self.input_dims[self.primary]}, hidden_dim, max_steps=max_steps, dropout=dropout
        )
        self.encoders = nn.ModuleDict(
            {key: build_encoder(encoder, dim, hidden_dim, dropout=dropout) for key, dim in others.items()}
        )
        self.cls = nn.Parameter(torch.randn(1, hidden_dim))
        self.below, self.above = (
            nn.ModuleList(TransformerLayer(hidden_dim, heads=heads, dropout=dropout) for _ in range(count))
            for count in (layers_below, layers_above)
        )
        self.gate = AdaptationGate(hidden_dim, list(others), beta=beta, dropout=dropout) if others else None
        self.norm = nn.LayerNorm(hidden_dim)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict; `representations["fusion"]` is the last [CLS] state."""
        primary = self.tokens(inputs)[self.primary]
        states = prepend(self.cls, primary)
        values = states.values
        for layer in self.below:
            values = layer(values, states.mask)
        if self.gate is not None:
            others = {key: self._on_primary(encoder(inputs[key]), primary) for key, encoder in self.encoders.items()}
            values = self.gate(values, others, {key: inputs[key].present for key in others})
        for layer in self.above:
            values = layer(values, states.mask)
        fused = self.norm(values[:, 0])
        return FusionOutput(self.output(fused), representations={"fusion": fused})

    @staticmethod
    def _on_primary(other: ModalitySequence, primary: ModalitySequence) -> Tensor:
        """`(B, 1 + T, H)`: the mean for [CLS], then what goes on during each of the primary's `T` steps."""
        during = resample(other, primary.lengths, primary.mask.shape[1]).values
        return torch.cat([masked_mean(other).unsqueeze(1), during], dim=1)


class AdaptationGate(nn.Module):
    """Shift states by gated displacements from other modalities, bounded by the states' own length.

    The paper's gate, for each step with state `z` and others `x_m`:

    - `g_m = relu(W_gm [z; x_m] + b_m)`;
    - `h = sum_m g_m * (W_m x_m) + b`, over the modalities that are there;
    - `z + alpha h`, with `alpha = min(|z| / |h| * beta, 1)`, then layer normalisation and dropout.

    Args:
        dim: size `H` of states and others.
        others: names of the other modalities.
        beta: bound of the shift's length, in lengths of the state.
        dropout: on the shifted states.

    Raises:
        ValueError: `beta` is not positive.
    """

    def __init__(self, dim: int, others: Sequence[str], *, beta: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        if beta <= 0:
            raise ValueError(f"beta must be positive, not {beta}: without a shift the others would not be heard")
        self.beta = beta
        self.gates = nn.ModuleDict({key: nn.Linear(2 * dim, dim) for key in others})
        self.displacements = nn.ModuleDict({key: nn.Linear(dim, dim, bias=False) for key in others})
        self.bias = nn.Parameter(torch.zeros(dim))
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, others: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """`(B, T, H)` states and others, `present (B,)` bool per other modality → `(B, T, H)`."""
        shift: Tensor = self.dropout(self.norm(states + self.shift(states, others, present)))
        return shift

    def shift(self, states: Tensor, others: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """`alpha h (B, T, H)`; zeros for clips with no other modality."""
        some = torch.stack([present[key] for key in self.gates]).any(dim=0)
        total = self.bias * some[:, None, None]
        for key, gate in self.gates.items():
            opened = torch.relu(gate(torch.cat([states, others[key]], dim=-1)))
            total = total + opened * self.displacements[key](others[key]) * present[key][:, None, None]
        length, own = (torch.linalg.vector_norm(x, dim=-1, keepdim=True) for x in (total, states))
        bounded: Tensor = total * (own / length.clamp(min=1e-6) * self.beta).clamp(max=1.0)
        return bounded
