"""Readouts over modalities that know which ones are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fusion.pooling import AttentionPooling
from fusion.sequence import ModalitySequence


class ModalityPooling(nn.Module):
    """Weighted mean of one vector per modality, with weights from a scorer, over the modalities that are there.

    The scorer is that of `AttentionPooling`. A single modality needs none, and then there are no parameters.

    Args:
        dim: size of the vectors.
        modalities: names, in the order of the vectors.
    """

    def __init__(self, dim: int, modalities: Sequence[str]) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.pool = AttentionPooling(dim) if len(self.modalities) > 1 else None

    def forward(self, vectors: Mapping[str, Tensor], present: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Pool.

        Args:
            vectors: `(B, H)` per modality.
            present: `(B, M)` bool.

        Returns:
            `(B, H)`, zeros for a clip without any modality, and the weights `(B,)` per modality.
        """
        stacked = stack_vectors([vectors[key] for key in self.modalities], present)
        weights = present.to(stacked.values.dtype) if self.pool is None else self.pool.weights(stacked)
        pooled = torch.einsum("bm,bmh->bh", weights, stacked.values)
        return pooled, dict(zip(self.modalities, weights.unbind(dim=1), strict=True))


def stack_vectors(vectors: Sequence[Tensor], present: Tensor) -> ModalitySequence:
    """`M` vectors `(B, H)` and `present (B, M)` as a sequence over modalities, zeros where one is missing."""
    return ModalitySequence(torch.stack(list(vectors), dim=1), present).zeroed()


def present_sum(vectors: Sequence[Tensor], present: Tensor) -> Tensor:
    """Sum over modalities that are there, scaled up by `M / present` so that a missing one leaves its size unchanged.

    Args:
        vectors: `M` tensors `(B, H)`.
        present: `(B, M)` bool.

    Returns:
        `(B, H)`; zeros for a clip without any modality.

    Example:
        >>> vectors = [torch.tensor([[1.0]]), torch.tensor([[3.0]])]
        >>> present_sum(vectors, torch.tensor([[True, True]])).item()
        4.0
        >>> present_sum(vectors, torch.tensor([[True, False]])).item()
        2.0
    """
    return present_mean(vectors, present) * len(vectors)


def present_mean(values: Sequence[Tensor], present: Tensor) -> Tensor:
    """Mean of `M` tensors `(B, ...)` over the modalities of `present (B, M)`; zeros where none is present."""
    shares = present / present.sum(dim=1, keepdim=True).clamp(min=1)
    stacked = torch.stack(list(values), dim=1)  # (B, M, ...)
    return torch.einsum("bm,bm...->b...", shares.to(stacked.dtype), stacked)
