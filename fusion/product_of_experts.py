"""Product of experts: each modality predicts a Gaussian, and the product of all is the prediction."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion.encoders import EncoderName, PoolingName, UnimodalEncoder
from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence

LOWEST_PRECISION = 1e-4
"""Keeps the share of an expert defined when all are unsure."""


def gaussian_product(means: Tensor, precisions: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and precision of a product of Gaussians: the precision-weighted mean, and the sum of precisions.

    Args:
        means: `(B, N, O)`.
        precisions: `(B, N, O)`, positive: inverse variances.
        present: `(B, N)` bool: experts that take part; at least one per clip.

    Returns:
        `(B, O)` and `(B, O)`.

    Example:
        >>> means, precisions = torch.tensor([[[0.0], [4.0]]]), torch.tensor([[[1.0], [3.0]]])
        >>> gaussian_product(means, precisions, torch.tensor([[True, True]]))
        (tensor([[3.]]), tensor([[4.]]))
    """
    kept = precisions.masked_fill(~present.unsqueeze(-1), 0.0)
    total = kept.sum(dim=1)
    return (kept * means.masked_fill(~present.unsqueeze(-1), 0.0)).sum(dim=1) / total, total


class ProductOfExpertsFusion(FusionHead):
    """Per-modality Gaussian experts and a prior expert; their product is precision-weighted averaging.

    Hinton, "Training Products of Experts by Minimizing Contrastive Divergence", Neural Computation 2002, for the
    product; Wu & Goodman, "Multimodal Generative Models for Scalable Weakly-Supervised Learning", NeurIPS 2018,
    section 2.2, for the closed form with a prior expert and one Gaussian per modality. Modality m gives a mean
    `mu_m` and a precision `t_m` for every output, and

    `prediction = (t_0 mu_0 + sum_m t_m mu_m) / (t_0 + sum_m t_m)` with the sum over present modalities.

    So a modality that is unsure of a clip counts little in that clip, and one that is missing does not count.
    `weights` are the shares of the precisions without the prior's, averaged over the outputs; `unimodal` are the
    experts' means.

    Deviations: the experts are over the prediction, not over a latent variable; the prior's mean and precision are
    learned instead of standard normal; precisions are trained by the task's loss through the weighted mean alone,
    so their ratios mean something and their scale does not.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of each unimodal vector.
        encoder: sequence encoder of every modality.
        pooling: how steps become one vector.
        dropout: on the unimodal vectors.

    Raises:
        ValueError: unknown `encoder` or `pooling`.
    """

    name = "product_of_experts"
    family = "late"
    paper = (
        'Hinton, "Training Products of Experts by Minimizing Contrastive Divergence", Neural Computation 2002; '
        'Wu & Goodman, "Multimodal Generative Models for Scalable Weakly-Supervised Learning", NeurIPS 2018'
    )

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        self.encoders = nn.ModuleDict(
            {
                key: UnimodalEncoder(dim, hidden_dim, encoder=encoder, pooling=pooling, dropout=dropout)
                for key, dim in self.input_dims.items()
            }
        )
        self.mean = nn.ModuleDict({key: nn.Linear(hidden_dim, output_dim) for key in self.modalities})
        self.precision = nn.ModuleDict({key: nn.Linear(hidden_dim, output_dim) for key in self.modalities})
        self.prior_mean = nn.Parameter(torch.zeros(output_dim))
        # A weak prior at the start: a tenth of the precision of an expert, which begins near softplus(0) = 0.69.
        self.prior_precision = nn.Parameter(torch.full((output_dim,), -2.6))

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Ask every expert, multiply."""
        present = stack_present(inputs)  # (B, M)
        vectors: dict[str, Tensor] = {key: self.encoders[key](sequence) for key, sequence in inputs.items()}
        means = torch.stack([self.mean[key](vector) for key, vector in vectors.items()], dim=1)  # (B, M, O)
        means = means.masked_fill(~present.unsqueeze(-1), 0.0)
        precisions = _positive(torch.stack([self.precision[key](vector) for key, vector in vectors.items()], dim=1))
        prediction, _ = self._with_prior(means, precisions, present)
        return FusionOutput(
            prediction=prediction,
            unimodal=dict(zip(vectors, means.unbind(dim=1), strict=True)),
            weights=dict(zip(vectors, precision_shares(precisions, present).unbind(dim=1), strict=True)),
            representations=vectors,
        )

    def _with_prior(self, means: Tensor, precisions: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        clips = means.shape[0]
        means = torch.cat([self.prior_mean.expand(clips, 1, -1), means], dim=1)
        precisions = torch.cat([_positive(self.prior_precision).expand(clips, 1, -1), precisions], dim=1)
        return gaussian_product(means, precisions, torch.cat([torch.ones_like(present[:, :1]), present], dim=1))


def precision_shares(precisions: Tensor, present: Tensor) -> Tensor:
    """`(B, N, O)` positive and `(B, N)` bool → `(B, N)`: each one's share of the sum, averaged over outputs.

    Example:
        >>> precision_shares(torch.tensor([[[1.0, 1.0], [3.0, 1.0]]]), torch.tensor([[True, True]]))
        tensor([[0.3750, 0.6250]])
    """
    kept = precisions.masked_fill(~present.unsqueeze(-1), 0.0)
    return (kept / kept.sum(dim=1, keepdim=True).clamp(min=LOWEST_PRECISION)).mean(dim=2)


def _positive(raw: Tensor) -> Tensor:
    return nn.functional.softplus(raw) + LOWEST_PRECISION
