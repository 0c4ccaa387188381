"""MMIM: keep what modalities have in common, and keep it in the fused vector, by maximising mutual information."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion.encoders import EncoderName, PoolingName, UnimodalEncoder
from fusion.head import FusionHead, stack_present
from fusion.joining import concatenate_present
from fusion.memory import two_layers
from fusion.objectives import clip_mean, contrastive_predictive_coding
from fusion.output import FusionOutput
from fusion.primary import choose_primary
from fusion.sequence import ModalitySequence

LOG_TWO_PI = math.log(2 * math.pi)


class ConditionalGaussian(nn.Module):
    """`q(y | x)`: a normal with a diagonal covariance, whose mean and variances are networks of `x`.

    Args:
        input_dim: features of `x`.
        output_dim: features of `y`.
        hidden_dim: hidden size of both networks.
    """

    def __init__(self, input_dim: int, output_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.mean = two_layers(input_dim, hidden_dim, output_dim, 0.0)
        self.log_variance = two_layers(input_dim, hidden_dim, output_dim, 0.0)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """`(B,)`: the log-density of each clip's `y` given its `x`, in nats."""
        # Bounded, as a variance near 0 would make a single step's gradient arbitrarily large.
        log_variance = 6 * torch.tanh(self.log_variance(x) / 6)
        scaled = (y - self.mean(x)).square() * torch.exp(-log_variance)
        density: Tensor = -0.5 * (scaled + log_variance + LOG_TWO_PI).sum(dim=-1)
        return density


def gaussian_entropy(values: Tensor, present: Tensor) -> Tensor:
    """Entropy of a normal with the covariance of the valid clips, in nats.

    The covariance is shrunk towards its diagonal by `D / (D + n)`, so that it is regular with any number of clips.

    Args:
        values: `(B, D)`.
        present: `(B,)` bool.

    Returns:
        Scalar; very low with one clip, whose covariance is 0.
    """
    dim = values.shape[1]
    count = present.sum()
    centred = (values - clip_mean(values, present)).masked_fill(~present.unsqueeze(-1), 0.0)
    covariance = centred.T @ centred / count.clamp(min=1)
    keep = count / (dim + count)
    diagonal = torch.diag(covariance.diagonal())
    covariance = keep * covariance + (1 - keep) * diagonal
    floor = 1e-6 * torch.eye(dim, dtype=values.dtype, device=values.device)
    return 0.5 * (dim * (1 + LOG_TWO_PI) + torch.logdet(covariance + floor))


def barber_agakov_bound(q: ConditionalGaussian, x: Tensor, y: Tensor, group: Tensor, present: Tensor) -> Tensor:
    """Lower bound of the mutual information of `x` and `y`: `H(y) + E[log q(y | x)]`, in nats.

    Barber & Agakov, "The IM Algorithm", NeurIPS 2003. The entropy is that of a mixture with one normal per group,
    bounded from below by the mean of the groups' entropies.

    Args:
        q: the variational conditional.
        x: `(B, D)`.
        y: `(B, E)`.
        group: `(B,)` bool, which of two groups a clip belongs to.
        present: `(B,)` bool, clips that count. A group of one valid clip has no entropy and is left out.

    Returns:
        Scalar; 0 when no group has two clips.
    """
    groups = [present & group, present & ~group]
    groups = [members & (members.sum() > 1) for members in groups]
    counted = groups[0] | groups[1]
    entropy = y.new_zeros(())
    for members in groups:
        share = members.sum() / counted.sum().clamp(min=1)
        entropy = entropy + share * gaussian_entropy(y, members)
    return (entropy + clip_mean(q(x, y), counted)) * counted.any()


class MMIM(FusionHead):
    """MultiModal InfoMax: mutual information between modalities, and between each and the fused vector.

    Han, Chen & Poria, "Improving Multimodal Fusion with Hierarchical Mutual Information Maximization for
    Multimodal Sentiment Analysis", EMNLP 2021. The modalities' vectors are concatenated and fused by a network
    whose last hidden layer `Z` gives the prediction. Two losses in training mode:

    - `"fusion_information"` (no label): for each modality, contrastive predictive coding of its vector from `Z`;
    - `"modality_information"` (`target_losses`): the negative Barber-Agakov bound between the primary modality and
      each other one, with `H(y)` of a mixture of two normals: clips with a positive label and the others.

    Deviations: any modalities; the pairs are the primary with every other one, as text is in the paper. The bound is
    trained in one stage, together with everything, instead of fitting `q` alone first in each epoch. The
    mixture's covariances are those of the batch, shrunk to their diagonal, instead of from a memory of earlier
    batches; groups weigh by size; the bound is divided by `hidden_dim`, so that the weight does not depend on it.
    Clips without a label take no part in the bound. The package's encoder takes the place of BERT and LSTMs. A
    missing modality drops out of both losses and of the concatenation, whose other parts are scaled up.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of every vector.
        primary: the modality that predicts the others; `"text"` when None and there is such a modality, else the
            first by name.
        label_column: output whose sign splits the clips into the mixture's two groups.
        encoder: sequence encoder of every modality.
        pooling: how steps become one vector.
        fusion_weight: factor of `"fusion_information"`.
        modality_weight: factor of `"modality_information"`.
        dropout: in the encoders and the fusion network.

    Raises:
        ValueError: `primary` is no modality, or `label_column` no output.
    """

    name = "mmim"
    family = "representation"
    paper = (
        'Han, Chen & Poria, "Improving Multimodal Fusion with Hierarchical Mutual Information Maximization for '
        'Multimodal Sentiment Analysis", EMNLP 2021'
    )
    own_losses = True

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        primary: str | None = None,
        label_column: int = 0,
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        fusion_weight: float = 0.1,
        modality_weight: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        if not 0 <= label_column < output_dim:
            raise ValueError(f"label_column must be an output in 0..{output_dim - 1}, not {label_column}")
        self.primary = choose_primary(self.modalities, primary)
        self.label_column = label_column
        self.fusion_weight = fusion_weight
        self.modality_weight = modality_weight
        count = len(self.input_dims)
        self.encoders = nn.ModuleList(
            UnimodalEncoder(dim, hidden_dim, encoder=encoder, pooling=pooling, dropout=dropout)
            for dim in self.input_dims.values()
        )
        self.joined = two_layers(count * hidden_dim, hidden_dim, hidden_dim, dropout)
        self.output = nn.Linear(hidden_dim, output_dim)
        self.predictors = nn.ModuleList(two_layers(hidden_dim, hidden_dim, hidden_dim, 0.0) for _ in range(count))
        self.conditionals = nn.ModuleList(
            ConditionalGaussian(hidden_dim, hidden_dim, hidden_dim) for _ in range(count - 1)
        )

    @property
    def others(self) -> tuple[str, ...]:
        """The modalities that the primary one predicts."""
        return tuple(key for key in self.modalities if key != self.primary)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict; `representations["present"]` `(B, M)` is 1 where a modality is there."""
        present = stack_present(inputs)  # (B, M)
        vectors = {key: self.encoders[m](inputs[key]) for m, key in enumerate(self.modalities)}
        joined = concatenate_present(torch.stack(list(vectors.values()), dim=1), present)
        fused = torch.relu(self.joined(joined))
        losses = {}
        if self.training:
            terms = [
                contrastive_predictive_coding(self.predictors[m](fused), vectors[key], present=present[:, m])
                for m, key in enumerate(self.modalities)
            ]
            losses["fusion_information"] = self.fusion_weight * torch.stack(terms).sum()
        named = {**vectors, "fusion": fused, "present": present.to(fused.dtype)}
        return FusionOutput(prediction=self.output(fused), losses=losses, representations=named)

    def target_losses(self, output: FusionOutput, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The negative bounds between the primary modality and the others, summed and weighted."""
        del index
        if not self.others:
            return {}
        named = output.representations
        label = target[:, self.label_column]
        there = {key: named["present"][:, m] > 0 for m, key in enumerate(self.modalities)}
        bounds = []
        for q, key in zip(self.conditionals, self.others, strict=True):
            valid = there[self.primary] & there[key] & torch.isfinite(label)
            bounds.append(barber_agakov_bound(q, named[self.primary], named[key], label > 0, valid))  # type: ignore[arg-type]
        information = torch.stack(bounds).sum() / named[self.primary].shape[1]
        return {"modality_information": -self.modality_weight * information}
