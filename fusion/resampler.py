"""Perceiver resampler and gated cross-attention, as in Flamingo: the others speak to the primary through latents."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion.attention import Attention, TransformerLayer
from fusion.head import FusionHead
from fusion.output import FusionOutput
from fusion.primary import choose_primary
from fusion.sequence import ModalitySequence
from fusion.tokens import ModalityTokens, join, prepend


class ResamplerFusion(FusionHead):
    """Each other modality becomes a few latents; gated cross-attention feeds them to the primary's transformer.

    Alayrac et al., "Flamingo: a Visual Language Model for Few-Shot Learning", NeurIPS 2022: `PerceiverResampler`
    and `GatedCrossAttention`, the latter in front of every layer of the primary. Its gates start at zero: an
    untrained head is its primary-only transformer, and learns to listen.

    Deviations:
        - Any primary, any number of others, each with its own resampler; the latents of all that are there are read
          together. A learned [CLS] step stands before the primary's steps and predicts, so a clip without the
          primary is still heard, through [CLS].
        - The primary's transformer is trained, not frozen; no causal mask (a whole clip is known).
        - Sinusoidal instead of learned time codes; modalities longer than `max_steps` are pooled to that first.

    Args:
        input_dims: features per modality.
        output_dim: outputs `O`.
        hidden_dim: size `H` of states and latents; a multiple of `heads`.
        primary: who listens; `"text"` if there is one, else the first in sorted order, when None.
        latents: latents per other modality.
        resampler_layers: layers of each resampler.
        layers: layers of the primary's transformer.
        heads: attention heads.
        max_steps: most tokens per modality.
        dropout: in the layers.

    Raises:
        ValueError: unknown `primary`, no latent, or `heads` does not divide `hidden_dim`.
    """

    name = "resampler"
    family = "attention"
    paper = 'Alayrac et al., "Flamingo: a Visual Language Model for Few-Shot Learning", NeurIPS 2022'

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        primary: str | None = None,
        latents: int = 8,
        resampler_layers: int = 1,
        layers: int = 2,
        heads: int = 4,
        max_steps: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        self.primary = choose_primary(self.modalities, primary)
        others = [key for key in self.modalities if key != self.primary]
        self.tokens = ModalityTokens(self.input_dims, hidden_dim, max_steps=max_steps, dropout=dropout)
        self.resamplers = nn.ModuleDict(
            {
                key: PerceiverResampler(
                    hidden_dim, latents=latents, layers=resampler_layers, heads=heads, dropout=dropout
                )
                for key in others
            }
        )
        self.cls = nn.Parameter(torch.randn(1, hidden_dim))
        self.gated = nn.ModuleList(
            GatedCrossAttention(hidden_dim, heads=heads, dropout=dropout) for _ in range(layers if others else 0)
        )
        self.layers = nn.ModuleList(TransformerLayer(hidden_dim, heads=heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_dim)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict; `representations["fusion"]` is the last [CLS] state."""
        tokens = self.tokens(inputs)
        latents = [resampler(tokens[key]) for key, resampler in self.resamplers.items()]
        states = prepend(self.cls, tokens[self.primary])
        values = states.values
        for level, layer in enumerate(self.layers):
            if latents:
                values = self.gated[level](values, join(latents))
            values = layer(values, states.mask)
        fused = self.norm(values[:, 0])
        return FusionOutput(self.output(fused), representations={"fusion": fused})


class PerceiverResampler(nn.Module):
    """A sequence of any length → a fixed number of latents.

    The paper's resampler: learned latents attend, layer by layer, to the sequence *and* themselves side by side,
    `x = x + Attention(q=x, kv=[sequence; x])`, then `x = x + FFW(x)`. Pre-norm; a last layer norm.

    Args:
        dim: size of tokens and latents.
        latents: number of latents `N`.
        layers: number of layers.
        heads: attention heads.
        dropout: after each part.

    Raises:
        ValueError: no latent.
    """

    def __init__(self, dim: int, *, latents: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        if latents < 1:
            raise ValueError(f"a modality speaks through at least 1 latent, not {latents}")
        self.latents = nn.Parameter(torch.randn(latents, dim))
        self.token_norms, self.latent_norms = (nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers)) for _ in "12")
        self.attentions = nn.ModuleList(Attention(dim, dim, heads=heads, dropout=dropout) for _ in range(layers))
        self.feedforwards = nn.ModuleList(feedforward(dim, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        """`(B, T, H)` → `(B, N, H)`; all latents are masked where the modality is missing."""
        clips = sequence.values.shape[0]
        values = self.latents.expand(clips, -1, -1)
        every = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        parts = zip(self.token_norms, self.latent_norms, self.attentions, self.feedforwards, strict=True)
        for token_norm, latent_norm, attention, block in parts:
            normed = latent_norm(values)
            keys = join([ModalitySequence(token_norm(sequence.values), sequence.mask), ModalitySequence(normed, every)])
            values = values + self.dropout(attention(normed, keys.values, keys.mask))
            values = values + self.dropout(block(values))
        return ModalitySequence(self.norm(values), every & sequence.present.unsqueeze(-1))


class GatedCrossAttention(nn.Module):
    """Cross-attention and a feed-forward block, both behind tanh gates that start at zero.

    The paper's gated cross-attention dense layer: `y = y + tanh(a) Attention(q=y, kv=latents)`, then
    `y = y + tanh(b) FFW(y)`, with scalars `a = b = 0` at first.

    Args:
        dim: size of states and latents.
        heads: attention heads.
        dropout: after each part.
    """

    def __init__(self, dim: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, dim, heads=heads, dropout=dropout)
        self.feedforward = feedforward(dim, dropout)
        self.attention_gate, self.feedforward_gate = (nn.Parameter(torch.zeros(1)) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, latents: ModalitySequence) -> Tensor:
        """`(B, T, H)` reading `(B, N, H)` → `(B, T, H)`."""
        read = self.dropout(self.attention(self.norm(values), latents.values, latents.mask))
        values = values + torch.tanh(self.attention_gate) * read
        out: Tensor = values + torch.tanh(self.feedforward_gate) * self.dropout(self.feedforward(values))
        return out


def feedforward(dim: int, dropout: float) -> nn.Sequential:
    """Pre-norm feed-forward block of inner size `4 dim`."""
    return nn.Sequential(
        nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)
    )
