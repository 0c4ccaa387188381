"""Concatenation of vectors some of which may be missing."""

from __future__ import annotations

import torch
from torch import Tensor


def concatenate_present(vectors: Tensor, present: Tensor) -> Tensor:
    """Put vectors side by side for a linear map behind them, as if the missing ones took no part.

    A linear map of a concatenation is a sum of one map per part. A missing part drops out of that sum, and the rest
    is scaled by N / number present, so the sum keeps its size. With every part present this is plain concatenation.

    Args:
        vectors: `(B, N, H)`.
        present: `(B, N)` bool.

    Returns:
        `(B, N * H)`; zeros where no part is present.

    Example:
        >>> concatenate_present(torch.tensor([[[1.0], [7.0]]]), torch.tensor([[True, False]]))
        tensor([[2., 0.]])
    """
    kept = vectors.masked_fill(~present.unsqueeze(-1), 0.0)
    scale = torch.full_like(kept[:, 0, :1], present.shape[1]) / present.sum(dim=1, keepdim=True).clamp(min=1)
    return kept.flatten(1) * scale
