"""Learned query tokens that read all modalities, as BLIP-2's querying transformer does."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion.attention import Attention
from fusion.head import FusionHead
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence
from fusion.tokens import ModalityTokens, join


class QueryTokenFusion(FusionHead):
    """Querying transformer over the tokens of all modalities.

    Li et al., "BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image Encoders and Large Language
    Models", ICML 2023, section 3.1. Learned queries `(Q, H)`, the same for every clip, attend to each other and,
    through cross-attention, to the features; their states predict. Cost grows with the number of tokens, never with
    its square.

    Deviations:
        - Queries read the tokens of all modalities at once, in every block (the paper: of images, in every other
          block). Missing modalities are masked keys.
        - Pre-norm, trained from scratch; the prediction is linear in the mean of the normalised query states.

    Args:
        input_dims: features per modality.
        output_dim: outputs `O`.
        hidden_dim: size `H` of tokens and queries; a multiple of `heads`.
        queries: number `Q` of query tokens.
        layers: number of blocks.
        heads: attention heads.
        max_steps: most tokens per modality; longer ones are pooled.
        dropout: in the blocks.

    Raises:
        ValueError: no query, or `heads` does not divide `hidden_dim`.
    """

    name = "query_tokens"
    family = "attention"
    paper = (
        'Li et al., "BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image Encoders and Large Language '
        'Models", ICML 2023'
    )

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        queries: int = 8,
        layers: int = 2,
        heads: int = 4,
        max_steps: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if queries < 1:
            raise ValueError(f"something must ask: queries is at least 1, not {queries}")
        self.tokens = ModalityTokens(self.input_dims, hidden_dim, max_steps=max_steps, dropout=dropout)
        self.queries = nn.Parameter(torch.randn(queries, hidden_dim))
        self.blocks = nn.ModuleList(QueryBlock(hidden_dim, heads=heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_dim)
        self.output = nn.Linear(hidden_dim, output_dim)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict; `representations["fusion"]` is the mean query state."""
        tokens = join(self.tokens(inputs).values())
        states = self.queries.expand(tokens.values.shape[0], -1, -1)
        for block in self.blocks:
            states = block(states, tokens)
        fused = self.norm(states).mean(dim=1)
        return FusionOutput(self.output(fused), representations={"fusion": fused})


class QueryBlock(nn.Module):
    """Self-attention among queries, cross-attention to tokens, a feed-forward block; pre-norm, with residuals.

    Args:
        dim: size of queries and tokens.
        heads: attention heads.
        dropout: after each part.
    """

    def __init__(self, dim: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_norm, self.cross_norm, self.token_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.self_attention = Attention(dim, heads=heads, dropout=dropout)
        self.cross_attention = Attention(dim, dim, heads=heads, dropout=dropout)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, tokens: ModalitySequence) -> Tensor:
        """`(B, Q, H)` reading `(B, T, H)` → `(B, Q, H)`."""
        normed = self.self_norm(queries)
        every = torch.ones(queries.shape[:2], dtype=torch.bool, device=queries.device)
        queries = queries + self.dropout(self.self_attention(normed, normed, every))
        read = self.cross_attention(self.cross_norm(queries), self.token_norm(tokens.values), tokens.mask)
        queries = queries + self.dropout(read)
        out: Tensor = queries + self.dropout(self.feedforward(queries))
        return out
