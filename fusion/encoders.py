"""Unimodal sequence encoders, shared by every head; all padding-blind."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from fusion.attention import TransformerLayer, sinusoidal_positions
from fusion.pooling import AttentionPooling, LastState, MeanPooling, StatisticsPooling
from fusion.sequence import ModalitySequence

EncoderName = Literal["gru", "lstm", "transformer", "convolution", "none"]
PoolingName = Literal["attention", "mean", "statistics", "last"]


class RecurrentEncoder(nn.Module):
    """LSTM or GRU over the real steps only.

    Gaps are closed before the recurrence, so masked steps cost no state. The backward direction runs over the
    reversed real steps, never over padding. Hochreiter & Schmidhuber 1997; Cho et al. 2014.

    Args:
        input_dim: features per step.
        hidden_dim: size of the output, both directions together.
        cell: `"gru"` or `"lstm"`.
        layers: stacked layers.
        bidirectional: read both ways; `hidden_dim` must then be even.
        dropout: between layers.

    Raises:
        ValueError: an odd `hidden_dim` for two directions.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        *,
        cell: Literal["gru", "lstm"] = "gru",
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        directions = 2 if bidirectional else 1
        if hidden_dim % directions:
            raise ValueError(f"two directions need an even hidden_dim, not {hidden_dim}")
        kind = nn.GRU if cell == "gru" else nn.LSTM
        size = hidden_dim // directions
        sizes = [input_dim] + [hidden_dim] * (layers - 1)
        self.forward_cells = nn.ModuleList(kind(n, size, batch_first=True) for n in sizes)
        self.backward_cells = nn.ModuleList(kind(n, size, batch_first=True) for n in sizes if bidirectional)
        self.dropout = nn.Dropout(dropout)

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        """`(B, T, input_dim)` → `(B, T, hidden_dim)`, real steps first."""
        sequence = sequence.compacted()
        values = sequence.values
        for level, cell in enumerate(self.forward_cells):
            if level:
                values = self.dropout(values)
            out = cell(values)[0]
            if self.backward_cells:
                reverse = self._reversal(sequence.mask)
                flipped = values.gather(1, reverse.unsqueeze(-1).expand_as(values))
                back = self.backward_cells[level](flipped)[0]
                out = torch.cat([out, back.gather(1, reverse.unsqueeze(-1).expand_as(back))], dim=-1)
            values = out
        return ModalitySequence(values, sequence.mask).zeroed()

    @staticmethod
    def _reversal(mask: Tensor) -> Tensor:
        """`(B, T)` index that reverses the first `length` steps of each row and is its own inverse."""
        steps = torch.arange(mask.shape[1], device=mask.device)
        lengths = mask.sum(dim=1, keepdim=True)
        return torch.where(steps < lengths, lengths - 1 - steps, steps)


class TransformerEncoder(nn.Module):
    """Linear projection, sinusoidal positions over real steps, pre-norm self-attention layers.

    Args:
        input_dim: features per step.
        hidden_dim: size of the output; a multiple of `heads`.
        layers: number of layers.
        heads: attention heads.
        dropout: dropout in the layers.
    """

    def __init__(
        self, input_dim: int, hidden_dim: int, *, layers: int = 2, heads: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.project = nn.Linear(input_dim, hidden_dim)
        self.layers = nn.ModuleList(TransformerLayer(hidden_dim, heads=heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_dim)

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        """`(B, T, input_dim)` → `(B, T, hidden_dim)`."""
        values = self.project(sequence.values)
        values = values + sinusoidal_positions(sequence.mask, values.shape[-1])
        for layer in self.layers:
            values = layer(values, sequence.mask)
        return ModalitySequence(self.norm(values), sequence.mask).zeroed()


class ConvolutionEncoder(nn.Module):
    """Residual temporal convolutions with growing dilation, blind to padding.

    Bai, Kolter & Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence
    Modeling", 2018. Deviation: convolutions look both ways (a whole clip is known), and masked steps are zeroed
    before every layer, which is what the edge of the sequence looks like anyway.

    Args:
        input_dim: features per step.
        hidden_dim: size of the output.
        layers: number of layers; layer k has dilation 2^k.
        kernel: odd kernel width in steps.
        dropout: after each layer.

    Raises:
        ValueError: an even `kernel`.
    """

    def __init__(
        self, input_dim: int, hidden_dim: int, *, layers: int = 2, kernel: int = 3, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd so that a step stays in the middle, not {kernel}")
        self.project = nn.Linear(input_dim, hidden_dim)
        self.layers = nn.ModuleList(
            nn.Conv1d(hidden_dim, hidden_dim, kernel, dilation=2**k, padding=(kernel // 2) * 2**k)
            for k in range(layers)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        """`(B, T, input_dim)` → `(B, T, hidden_dim)`, real steps first."""
        sequence = sequence.compacted()
        keep = sequence.mask.unsqueeze(1)  # (B, 1, T)
        values = self.project(sequence.values).transpose(1, 2)  # (B, H, T)
        for layer in self.layers:
            values = values * keep
            values = values + self.dropout(torch.relu(layer(values)))
        return ModalitySequence(values.transpose(1, 2), sequence.mask).zeroed()


class Projection(nn.Module):
    """A linear map of every step, for pooling without context.

    Args:
        input_dim: features per step.
        hidden_dim: size of the output.
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(input_dim, hidden_dim)

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        """`(B, T, input_dim)` → `(B, T, hidden_dim)`."""
        return ModalitySequence(self.project(sequence.values), sequence.mask).zeroed()


def build_encoder(
    name: EncoderName, input_dim: int, hidden_dim: int, *, dropout: float = 0.0, both_ways: bool = True
) -> nn.Module:
    """A sequence encoder by name, at its default depth.

    A recurrence reads both ways, if `both_ways` and `hidden_dim` is even; the other encoders always do.

    Raises:
        ValueError: unknown name.
    """
    if name in ("gru", "lstm"):
        bidirectional = both_ways and hidden_dim % 2 == 0
        return RecurrentEncoder(input_dim, hidden_dim, cell=name, bidirectional=bidirectional, dropout=dropout)
    if name == "transformer":
        return TransformerEncoder(input_dim, hidden_dim, dropout=dropout)
    if name == "convolution":
        return ConvolutionEncoder(input_dim, hidden_dim, dropout=dropout)
    if name == "none":
        return Projection(input_dim, hidden_dim)
    raise ValueError(f"encoder must be one of gru, lstm, transformer, convolution, none, not {name!r}")


class UnimodalEncoder(nn.Module):
    """A sequence encoder and a pooling: one modality → one vector per clip.

    Args:
        input_dim: features per step.
        hidden_dim: size `H` of the vector.
        encoder: which sequence encoder.
        pooling: how steps become one vector.
        dropout: on the vector, and inside the encoder.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        *,
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        # At the last step a backward recurrence has read that step alone: half of the vector would be wasted.
        both_ways = pooling != "last"
        self.encoder = build_encoder(encoder, input_dim, hidden_dim, dropout=dropout, both_ways=both_ways)
        kinds = {
            "attention": AttentionPooling,
            "mean": MeanPooling,
            "statistics": StatisticsPooling,
            "last": LastState,
        }
        if pooling not in kinds:
            raise ValueError(f"pooling must be one of {', '.join(kinds)}, not {pooling!r}")
        self.pooling = kinds[pooling](hidden_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, sequence: ModalitySequence) -> Tensor:
        """`(B, T, input_dim)` → `(B, hidden_dim)`; zeros for a clip in which the modality is missing."""
        pooled = self.dropout(self.pooling(self.encoder(sequence)))
        return torch.where(sequence.present.unsqueeze(-1), pooled, torch.zeros_like(pooled))
