"""MulT: directional crossmodal transformers between all pairs of modalities."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor, nn

from fusion.attention import TransformerLayer, sinusoidal_positions
from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.pooling import LastState
from fusion.sequence import ModalitySequence


class MulT(FusionHead):
    """Multimodal transformer for unaligned sequences.

    Tsai et al., "Multimodal Transformer for Unaligned Multimodal Language Sequences", ACL 2019, section 3:

    1. temporal convolution: `X̂_m = Conv1D(X_m) (B, T_m, H)`;
    2. positions: `Z_m[0] = X̂_m + PE`;
    3. for every ordered pair, a crossmodal transformer of `layers` layers in which the target's stream attends to
       the source's low-level features: `Ẑ[i] = CM(LN(Z[i-1]), LN(Z_source[0])) + Z[i-1]`,
       `Z[i] = f(LN(Ẑ[i])) + Ẑ[i]`;
    4. per target, the streams side by side `(B, T_m, (M - 1) H)` through a self-attention transformer;
    5. the last real step of each, side by side, through a residual block to the prediction.

    Deviations:
        - Any number of modalities; one alone has no pair, and its `Z[0]` goes to the self-attention directly.
        - Key-padding masks everywhere, and the last *real* step (no causal mask within sequences).
        - The residual adds the stream itself, not its normalised form, and a last layer norm closes each
          transformer: the usual pre-norm form. GELU in place of ReLU, biases in the attention.
        - A missing source adds nothing: the target's stream passes that direction's layers unreinforced, through
          their feed-forward blocks alone.
        - A missing target drops out of the last concatenation, whose other parts are scaled up by M / present.

    Args:
        input_dims: features per modality.
        output_dim: outputs `O`.
        hidden_dim: size `H` of each stream; a multiple of `heads`.
        layers: layers of each crossmodal transformer.
        self_layers: layers of each self-attention transformer.
        heads: attention heads.
        kernel: odd width of the temporal convolutions, in steps.
        dropout: in the transformers and the last block.

    Raises:
        ValueError: an even `kernel`, or `heads` does not divide `hidden_dim`.
    """

    name = "mult"
    family = "attention"
    paper = 'Tsai et al., "Multimodal Transformer for Unaligned Multimodal Language Sequences", ACL 2019'

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 32,
        layers: int = 2,
        self_layers: int = 1,
        heads: int = 4,
        kernel: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd so that a step stays in the middle, not {kernel}")
        names = self.modalities
        self.convolutions = nn.ModuleDict(
            {key: nn.Conv1d(self.input_dims[key], hidden_dim, kernel, padding=kernel // 2, bias=False) for key in names}
        )
        self.crossmodal = nn.ModuleDict(
            {
                f"{source}->{target}": CrossmodalTransformer(hidden_dim, layers=layers, heads=heads, dropout=dropout)
                for target, source in permutations(names, 2)
            }
        )
        width = hidden_dim * max(1, len(names) - 1)
        self.self_attention = nn.ModuleDict(
            {key: SelfTransformer(width, layers=self_layers, heads=heads, dropout=dropout) for key in names}
        )
        self.last = LastState(width)
        total = width * len(names)
        self.block = nn.Sequential(nn.Linear(total, total), nn.ReLU(), nn.Dropout(dropout), nn.Linear(total, total))
        self.output = nn.Linear(total, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict; `representations` are each target's last step `(B, (M - 1) H)` and the last hidden vector."""
        low = {key: self._low_level(key, sequence) for key, sequence in inputs.items()}
        summaries = {}
        for target in self.modalities:
            sources = [key for key in self.modalities if key != target]
            streams = [self.crossmodal[f"{source}->{target}"](low[target], low[source]) for source in sources]
            values = torch.cat([stream.values for stream in streams or [low[target]]], dim=-1)
            joint = ModalitySequence(values, low[target].mask)
            summaries[target] = self.last(self.self_attention[target](joint))
        present = stack_present(inputs)
        # A missing target's summary is zero, the neutral element of the linear map behind it.
        scale = len(summaries) / present.sum(dim=1, keepdim=True).clamp(min=1)
        last = torch.cat(list(summaries.values()), dim=-1) * scale
        hidden = last + self.block(last)
        return FusionOutput(self.output(hidden), representations={**summaries, "fusion": hidden})

    def _low_level(self, key: str, sequence: ModalitySequence) -> ModalitySequence:
        sequence = sequence.compacted()
        values: Tensor = self.convolutions[key](sequence.values.transpose(1, 2)).transpose(1, 2)
        values = values + sinusoidal_positions(sequence.mask, values.shape[-1]).to(values.dtype)
        return ModalitySequence(values, sequence.mask).zeroed()


class CrossmodalTransformer(nn.Module):
    """One direction: the target's stream, reinforced layer by layer by the source's low-level features.

    Args:
        dim: size of both streams.
        layers: number of layers.
        heads: attention heads.
        dropout: in the layers.
    """

    def __init__(self, dim: int, *, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(dim, dim, heads=heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, target: ModalitySequence, source: ModalitySequence) -> ModalitySequence:
        """`(B, T, H)` attending to `(B, S, H)` → `(B, T, H)`."""
        values = target.values
        for layer in self.layers:
            values = layer(values, target.mask, source.values, source.mask)
        return ModalitySequence(self.norm(values), target.mask).zeroed()


class SelfTransformer(nn.Module):
    """Self-attention layers and a last layer norm.

    Args:
        dim: size of the stream.
        layers: number of layers.
        heads: attention heads.
        dropout: in the layers.
    """

    def __init__(self, dim: int, *, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(dim, heads=heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        """`(B, T, H)` → `(B, T, H)`."""
        values = sequence.values
        for layer in self.layers:
            values = layer(values, sequence.mask)
        return ModalitySequence(self.norm(values), sequence.mask).zeroed()
