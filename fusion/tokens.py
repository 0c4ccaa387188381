"""Modalities as tokens of one size: what attention heads read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from fusion.attention import sinusoidal_positions
from fusion.encoders import EncoderName, build_encoder
from fusion.grid import at_most
from fusion.sequence import ModalitySequence


class ModalityTokens(nn.Module):
    """Bring every modality to `hidden_dim` features per step, bounded in length, with positions.

    Each modality is pooled to at most `max_steps` steps, encoded, normalised, and given sinusoidal positions.
    Encoder and normalisation are the modality's own, so their biases tell modalities apart.

    Args:
        input_dims: features per modality.
        hidden_dim: size `H` of a token.
        max_steps: longer clips are pooled to this many steps (see `fusion.grid.at_most`).
        encoder: sequence encoder of each modality; `"none"` is a linear map of every step.
        dropout: inside the encoder and on the tokens.
    """

    def __init__(
        self,
        input_dims: Mapping[str, int],
        hidden_dim: int,
        *,
        max_steps: int = 64,
        encoder: EncoderName = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, not {max_steps}")
        self.max_steps = max_steps
        self.encoders = nn.ModuleDict(
            {key: build_encoder(encoder, dim, hidden_dim, dropout=dropout) for key, dim in input_dims.items()}
        )
        self.norms = nn.ModuleDict({key: nn.LayerNorm(hidden_dim) for key in input_dims})
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Mapping[str, ModalitySequence]) -> dict[str, ModalitySequence]:
        """Per modality `(B, T_m, D_m)` → `(B, min(T_m, max_steps), H)`, real steps first, zeros elsewhere."""
        tokens = {}
        for key, encoder in self.encoders.items():
            sequence = encoder(at_most(inputs[key], self.max_steps))
            values = self.norms[key](sequence.values)
            values = values + sinusoidal_positions(sequence.mask, values.shape[-1]).to(values.dtype)
            tokens[key] = ModalitySequence(self.dropout(values), sequence.mask).zeroed()
        return tokens


def join(sequences: Iterable[ModalitySequence]) -> ModalitySequence:
    """One sequence after the other: `(B, T_1, H)`, `(B, T_2, H)`, ... → `(B, T_1 + T_2 + ..., H)`."""
    parts = list(sequences)
    return ModalitySequence(
        torch.cat([part.values for part in parts], dim=1), torch.cat([part.mask for part in parts], dim=1)
    )


def prepend(tokens: Tensor, sequence: ModalitySequence) -> ModalitySequence:
    """Put `tokens (K, H)`, the same for all clips, in front of `(B, T, H)`; they are real in every clip."""
    clips = sequence.values.shape[0]
    mask = torch.ones(clips, tokens.shape[0], dtype=torch.bool, device=sequence.mask.device)
    return join([ModalitySequence(tokens.expand(clips, -1, -1), mask), sequence])
