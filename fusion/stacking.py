"""Stacking: unimodal predictors, and a meta-classifier fitted on predictions for clips they were not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from fusion.encoders import EncoderName, PoolingName
from fusion.head import FusionHead, stack_present
from fusion.late import UnimodalPredictor
from fusion.meta_learner import MetaProblem, choose_penalty, fit_table, subset_index, subsets
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence

MOST_MODALITIES = 8
"""There is one row of weights for each of the `2^M` sets of present modalities."""


class StackingFusion(FusionHead):
    """Unimodal predictors combined by a linear meta-classifier that out-of-sample predictions have fitted.

    Wolpert, "Stacked Generalization", Neural Networks 1992; Breiman, "Stacked Regressions", Machine Learning 1996,
    for ridge and for non-negative weights; Ting & Witten, "Issues in Stacked Generalization", JAIR 1999, for linear
    meta-classifiers of class scores. `prediction = sum_m w_m * unimodal_m + b`.

    There is one set of weights per set `S` of present modalities. It is fitted on all clips that have at least the
    modalities of `S`, ignoring the others' predictions, so complete clips teach every subset. The fit minimises the
    squared error of a score, or the cross-entropy of classes (one weight per modality for all classes, and one
    intercept per class), plus a ridge penalty on the distance from the plain average, whose strength is chosen by
    cross-validation. With no clip to learn from, the weights are the average.

    Use: train the head with the loss on `unimodal`; it averages meanwhile. Then call `fit_after_training` once
    with held-out batches, or `fit_meta` with out-of-fold predictions from `fusion.meta_learner.out_of_fold`. Weights
    and intercepts are buffers: the optimiser leaves them alone and they are saved with the head.

    `weights` are the shares of the absolute meta-weights, averaged over outputs; equal where all of them are 0.

    Deviations: the base predictors are networks trained together; the weights depend on which modalities are
    present; ridge pulls towards the average and not towards zero.

    Args:
        input_dims: features per modality; at most 8.
        output_dim: number of outputs.
        hidden_dim: size of each unimodal vector.
        encoder: sequence encoder of every modality.
        pooling: how steps become one vector.
        nonnegative: keep the meta-weights from being negative, which strongly correlated predictors invite.
        dropout: on the unimodal vectors.

    Raises:
        ValueError: more than 8 modalities; unknown `encoder` or `pooling`.
    """

    name = "stacking"
    family = "late"
    paper = 'Wolpert, "Stacked Generalization", Neural Networks 1992'
    meta_weights: Tensor
    meta_intercept: Tensor

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        encoder: EncoderName = "gru",
        pooling: PoolingName = "attention",
        nonnegative: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        count = len(self.input_dims)
        if count > MOST_MODALITIES:
            raise ValueError(
                f"stacking keeps weights for every subset of the modalities and takes at most {MOST_MODALITIES} of "
                f"them, not {count}: use LateFusion, whose weights are renormalised instead"
            )
        self.nonnegative = nonnegative
        self.predictors = nn.ModuleDict(
            {
                key: UnimodalPredictor(
                    dim, output_dim, hidden_dim=hidden_dim, encoder=encoder, pooling=pooling, dropout=dropout
                )
                for key, dim in self.input_dims.items()
            }
        )
        members = subsets(count).float()  # (2^M, M)
        average = members / members.sum(dim=1, keepdim=True).clamp(min=1)
        self.register_buffer("meta_weights", average.unsqueeze(-1).repeat(1, 1, output_dim))  # (2^M, M, O)
        self.register_buffer("meta_intercept", torch.zeros(2**count, output_dim))

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict from each modality, then combine with the weights of the modalities that are there."""
        vectors: dict[str, Tensor] = {}
        unimodal: dict[str, Tensor] = {}
        for key, sequence in inputs.items():
            vectors[key], unimodal[key] = self.predictors[key](sequence)
        present = stack_present(inputs)
        index = subset_index(present)
        weights = self.meta_weights[index]  # (B, M, O)
        combined = (weights * torch.stack(list(unimodal.values()), dim=1)).sum(dim=1)
        return FusionOutput(
            prediction=combined + self.meta_intercept[index],
            unimodal=unimodal,
            weights=dict(zip(vectors, _shares(weights, present).unbind(dim=1), strict=True)),
            representations=vectors,
        )

    def fit_after_training(self, batches: Iterable[tuple[Mapping[str, ModalitySequence], Tensor]]) -> None:
        """Fit the meta-classifier; the training loop calls this once, when the base predictors are trained.

        The batches are those of the VALIDATION split. The base predictors have never been trained on it, so their
        predictions there are out-of-sample, which is what stacking needs. (Where the same split has also chosen the
        epoch, the predictions are better than on new clips by as much as that choice, and scores on that split are
        no estimate for new clips any more.)

        Args:
            batches: inputs and target `(B, O)`: the score, or one-hot for classes, NaN where unlabelled.

        Raises:
            ValueError: no batch was given.
        """
        rows: list[tuple[dict[str, Tensor], Tensor, Tensor]] = []
        was_training = self.training
        self.eval()
        with torch.no_grad():
            for inputs, target in batches:
                output = self(inputs)
                missing = torch.zeros(len(target), dtype=torch.bool, device=target.device)
                here = [inputs[key].present if key in inputs else missing for key in self.modalities]
                rows.append((output.unimodal, torch.stack(here, dim=1), target))
        self.train(was_training)
        if not rows:
            raise ValueError("no batch to fit the meta-classifier on: give the batches of the validation split")
        present = torch.cat([here for _, here, _ in rows])
        self.fit_meta(
            {key: torch.cat([unimodal[key] for unimodal, _, _ in rows]) for key in self.modalities},
            dict(zip(self.modalities, present.unbind(dim=1), strict=True)),
            torch.cat([target for _, _, target in rows]),
        )

    def fit_meta(
        self,
        predictions: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        target: Tensor,
        *,
        classes: Sequence[slice] | None = None,
    ) -> None:
        """Fit weights and intercepts for every subset of modalities.

        Args:
            predictions: per modality `(N, O)`, out of sample, in the layout of `prediction`.
            present: per modality `(N,)` bool.
            target: `(N, O)`: scores, one-hot for classes, NaN where unlabelled.
            classes: which columns are the classes of one task; every other column is a score. When None, they are
                read from the layout of `target`, see `one_hot_columns`.

        Raises:
            ValueError: the modalities are not the head's, or the sizes disagree.
        """
        self._check_meta(predictions, present, target)
        stacked = torch.stack([predictions[key] for key in self.modalities], dim=1).detach().double().cpu()
        here = torch.stack([present[key] for key in self.modalities], dim=1).cpu()
        stacked = stacked.masked_fill(~here.unsqueeze(-1), 0.0)
        wanted = target.detach().double().cpu()
        groups = one_hot_columns(wanted) if classes is None else tuple(classes)
        grouped = {column for group in groups for column in range(self.output_dim)[group]}
        scores = [slice(column, column + 1) for column in range(self.output_dim) if column not in grouped]
        for columns, is_classes in [*((group, True) for group in groups), *((score, False) for score in scores)]:
            known = here.any(dim=1) & ~wanted[:, columns].isnan().any(dim=1)
            problem = MetaProblem(stacked[known][..., columns], here[known], wanted[known][:, columns], is_classes)
            penalty = choose_penalty(problem, nonnegative=self.nonnegative)
            weights, intercept = fit_table(problem, penalty, nonnegative=self.nonnegative)
            self.meta_weights[..., columns] = weights.unsqueeze(-1).to(self.meta_weights)
            self.meta_intercept[:, columns] = intercept.to(self.meta_intercept)

    def _check_meta(self, predictions: Mapping[str, Tensor], present: Mapping[str, Tensor], target: Tensor) -> None:
        for what, given in (("predictions", predictions), ("present", present)):
            if set(given) != set(self.modalities):
                raise ValueError(f"{what} must have one entry for each of {self.modalities}, not for {sorted(given)}")
        shapes = {key: tuple(value.shape) for key, value in predictions.items()}
        if {*shapes.values(), tuple(target.shape)} != {(len(target), self.output_dim)}:
            raise ValueError(
                f"predictions and target must all be (N, {self.output_dim}), not {shapes} and {tuple(target.shape)}"
            )


def one_hot_columns(target: Tensor) -> tuple[slice, ...]:
    """Which columns of `target (N, O)` are the classes of a task, by its layout: scores as they are, classes one-hot.

    A task's classes are at least two neighbouring columns that hold only 0 and 1 and of which exactly one is 1 in
    every labelled row. A column without any 1 (a class that no clip has) belongs to the classes before it.

    Example:
        >>> one_hot_columns(torch.tensor([[0.4, 1.0, 0.0, 0.0], [-2.0, 0.0, 1.0, 0.0]]))
        (slice(1, 4, None),)
    """
    groups: list[slice] = []
    start = 0
    while start < target.shape[1]:
        stop = next((end for end in range(start + 2, target.shape[1] + 1) if _is_one_hot(target[:, start:end])), None)
        if stop is None:
            start += 1
            continue
        while stop < target.shape[1] and (target[:, stop].nan_to_num() == 0).all():
            stop += 1
        groups.append(slice(start, stop))
        start = stop
    return tuple(groups)


def _is_one_hot(columns: Tensor) -> bool:
    labelled = columns[~columns.isnan().any(dim=1)]
    binary = (labelled == 0) | (labelled == 1)
    return len(labelled) > 0 and bool(binary.all()) and bool((labelled.sum(dim=1) == 1).all())


def _shares(weights: Tensor, present: Tensor) -> Tensor:
    """`(B, M, O)` → `(B, M)`: shares of the absolute weights, averaged over outputs; equal where all are zero."""
    size = weights.abs().mean(dim=2)
    total = size.sum(dim=1, keepdim=True)
    equal = present / present.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(total > 0, size / torch.where(total > 0, total, torch.ones_like(total)), equal)
