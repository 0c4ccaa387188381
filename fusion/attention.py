"""Attention that knows about padding: the one place where `scaled_dot_product_attention` is called."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention of a sequence to itself or to another one.

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, eq. 1 and section 3.2.2. Deviation: a query whose
    keys are all masked gets zeros (before the output projection's bias, too) instead of NaN.

    Args:
        query_dim: features of the queries; the output has as many.
        key_dim: features of keys and values; the same as `query_dim` when None.
        heads: number of heads; must divide `query_dim`.
        dropout: dropout on the attention weights (training then needs memory for all Q * K of them).

    Raises:
        ValueError: `heads` does not divide `query_dim`.
    """

    def __init__(self, query_dim: int, key_dim: int | None = None, *, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        if query_dim % heads:
            raise ValueError(f"heads must divide query_dim: {query_dim} is not a multiple of {heads}")
        key_dim = query_dim if key_dim is None else key_dim
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(query_dim, query_dim)
        self.key_value = nn.Linear(key_dim, 2 * query_dim)
        self.output = nn.Linear(query_dim, query_dim)

    def forward(self, query: Tensor, key: Tensor, key_mask: Tensor, *, pairs: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            query: `(B, Q, query_dim)`.
            key: `(B, K, key_dim)`.
            key_mask: `(B, K)` bool, True where a key is real.
            pairs: `(Q, K)` bool, True where a query may look at a key at all (causal or local attention).

        Returns:
            `(B, Q, query_dim)`; zeros for a query that has no key to look at.
        """
        batch, steps, dim = query.shape
        # Without `pairs` the mask stays (B, 1, 1, K), so that memory grows with Q + K and not with Q * K.
        allowed = key_mask[:, None, None, :] if pairs is None else key_mask[:, None, None, :] & pairs
        reachable = allowed.any(dim=-1, keepdim=True)  # (B, 1, 1 or Q, 1)
        q = self.query(query).view(batch, steps, self.heads, -1).transpose(1, 2)
        k, v = (
            part.view(batch, key.shape[1], self.heads, -1).transpose(1, 2)
            for part in self.key_value(key).chunk(2, dim=-1)
        )
        dropout = self.dropout if self.training else 0.0
        # A row without any key would be a softmax over nothing: open it, then drop what came out.
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed | ~reachable, dropout_p=dropout)
        attended = attended.transpose(1, 2).reshape(batch, steps, dim)
        out: Tensor = self.output(attended)
        return out.masked_fill(~reachable.squeeze(1), 0.0)


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer: attention to itself or to a context, then a feed-forward block.

    Xiong et al., "On Layer Normalization in the Transformer Architecture", ICML 2020 (pre-norm form).

    Args:
        dim: features of the sequence.
        context_dim: features of the context for cross-attention; None makes it self-attention.
        heads: attention heads.
        feedforward_dim: hidden size of the feed-forward block; `4 * dim` when None.
        dropout: dropout after attention, inside and after the feed-forward block.
        attention_dropout: dropout on the attention weights. Off by default: the fused CPU kernel has none, and
            without that kernel the memory of a training step grows with the square of the length.
    """

    def __init__(
        self,
        dim: int,
        context_dim: int | None = None,
        *,
        heads: int = 4,
        feedforward_dim: int | None = None,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        inner = 4 * dim if feedforward_dim is None else feedforward_dim
        self.norm = nn.LayerNorm(dim)
        self.context_norm = None if context_dim is None else nn.LayerNorm(context_dim)
        self.attention = Attention(dim, context_dim, heads=heads, dropout=attention_dropout)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, inner), nn.GELU(), nn.Dropout(dropout), nn.Linear(inner, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        values: Tensor,
        mask: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        *,
        pairs: Tensor | None = None,
    ) -> Tensor:
        """`(B, T, dim)` in and out; with a context `(B, K, context_dim)`, attends to that.

        Raises:
            ValueError: a context was given to a self-attention layer, or none to a cross-attention layer.
        """
        normed = self.norm(values)
        if self.context_norm is None:
            if context is not None:
                raise ValueError("this layer was built without context_dim: it attends to its own sequence only")
            keys, key_mask = normed, mask
        else:
            if context is None or context_mask is None:
                raise ValueError("this layer was built with context_dim: give it context and context_mask")
            keys, key_mask = self.context_norm(context), context_mask
        values = values + self.dropout(self.attention(normed, keys, key_mask, pairs=pairs))
        out: Tensor = values + self.dropout(self.feedforward(values))
        return out


def sinusoidal_positions(mask: Tensor, dim: int) -> Tensor:
    """Sinusoidal position codes that count real steps only, so padding never shifts a position.

    Vaswani et al. 2017, section 3.5.

    Args:
        mask: `(B, T)` bool.
        dim: features.

    Returns:
        `(B, T, dim)` float32, zeros at masked steps.
    """
    position = (mask.cumsum(dim=1) - 1).unsqueeze(-1).to(torch.float32)  # (B, T, 1)
    half = torch.arange((dim + 1) // 2, device=mask.device, dtype=torch.float32)
    angle = position * torch.exp(half * (-9.210340371976184 / max(1, (dim + 1) // 2)))  # ln 10000
    codes = torch.cat([angle.sin(), angle.cos()], dim=-1)[..., :dim]
    return codes.masked_fill(~mask.unsqueeze(-1), 0.0)
