"""Pooling of a modality sequence into one vector per clip; all padding-blind, zeros where nothing is real."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusion.sequence import ModalitySequence


class MeanPooling(nn.Module):
    """Mean over real steps.

    Args:
        dim: features per step.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.output_dim = dim

    def forward(self, sequence: ModalitySequence) -> Tensor:
        """`(B, T, D)` → `(B, D)`."""
        return masked_mean(sequence)


class LastState(nn.Module):
    """The last real step.

    Args:
        dim: features per step.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.output_dim = dim

    def forward(self, sequence: ModalitySequence) -> Tensor:
        """`(B, T, D)` → `(B, D)`."""
        steps = torch.arange(sequence.mask.shape[1], device=sequence.mask.device)
        last = torch.where(sequence.mask, steps, -1).amax(dim=1).clamp(min=0)  # (B,)
        index = last[:, None, None].expand(-1, 1, sequence.values.shape[2])
        return sequence.zeroed().values.gather(1, index).squeeze(1)


class AttentionPooling(nn.Module):
    """Weighted mean whose weights come from a small scorer of each step.

    Yang et al., "Hierarchical Attention Networks for Document Classification", NAACL 2016, eq. 5-7.

    Args:
        dim: features per step.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.output_dim = dim
        self.score = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1, bias=False))

    def forward(self, sequence: ModalitySequence) -> Tensor:
        """`(B, T, D)` → `(B, D)`."""
        return torch.einsum("bt,btd->bd", self.weights(sequence), sequence.values)

    def weights(self, sequence: ModalitySequence) -> Tensor:
        """`(B, T)`, summing to 1 over the real steps of a clip; zeros where none is real."""
        return masked_softmax(self.score(sequence.values).squeeze(-1), sequence.mask)


class StatisticsPooling(nn.Module):
    """Mean and standard deviation over real steps, mapped back to `dim` features.

    Snyder et al., "X-vectors", ICASSP 2018, section 2.1. The deviation is the population's (n, not n-1), so one
    step has 0.

    Args:
        dim: features per step.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.output_dim = dim
        self.project = nn.Linear(2 * dim, dim)

    def forward(self, sequence: ModalitySequence) -> Tensor:
        """`(B, T, D)` → `(B, D)`."""
        mean, deviation = masked_statistics(sequence)
        pooled: Tensor = self.project(torch.cat([mean, deviation], dim=-1))
        return pooled.masked_fill(~sequence.present.unsqueeze(-1), 0.0)


def masked_mean(sequence: ModalitySequence) -> Tensor:
    """`(B, D)`: mean over real steps; zeros where none is real."""
    return sequence.zeroed().values.sum(dim=1) / sequence.lengths.clamp(min=1).unsqueeze(-1)


def masked_statistics(sequence: ModalitySequence) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation over real steps, each `(B, D)`."""
    mean = masked_mean(sequence)
    centred = ModalitySequence((sequence.values - mean.unsqueeze(1)) ** 2, sequence.mask)
    # The small number keeps the root's gradient finite at zero variance and vanishes in the value.
    deviation = (masked_mean(centred) + 1e-12).sqrt() - 1e-6
    return mean, deviation


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension's True positions; zeros elsewhere, and everywhere where none is True.

    Example:
        >>> masked_softmax(torch.zeros(1, 3), torch.tensor([[True, True, False]]))
        tensor([[0.5000, 0.5000, 0.0000]])
    """
    lowest = torch.finfo(scores.dtype).min
    weights = torch.softmax(scores.masked_fill(~mask, lowest), dim=-1)
    return weights.masked_fill(~mask, 0.0)
