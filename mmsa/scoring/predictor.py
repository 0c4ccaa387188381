"""From features to scores: the model, calibrated, over many stretches of media in one forward pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from extractors.sequence import FeatureSequence
from mmsa.bundle import Bundle
from mmsa.features.aligned import nothing_overlaps, on_grid
from mmsa.scoring.results import ModalityScore, TaskScore, WindowScore, number
from mmsa.tasks import Classification, MultiLabel

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from extractors import Extraction
    from fusion import FusionOutput, ModalitySequence
    from mmsa.scoring.parts import Part

TOGETHER = 16
"""Stretches in one batch; with every subset of three modalities that is 112 rows."""


@dataclass(frozen=True)
class Prediction:
    """What the model says of one stretch.

    Attributes:
        scores: by task; empty where every modality is missing.
        modalities: by modality of the model.
    """

    scores: Mapping[str, TaskScore]
    modalities: Mapping[str, ModalityScore]


class Predicts(ABC):
    """What a scorer needs of its model."""

    @abstractmethod
    def predict(self, found: Sequence[Extraction], starts: Sequence[float] | None = None) -> list[Prediction]:
        """One prediction for each extraction, in order.

        Args:
            found: what was extracted.
            starts: where each stretch starts, in seconds of the media's clock; None is 0 for all.
        """

    def windows(self, part: Part) -> Iterator[WindowScore]:
        """The stretches of a part as windows, not smoothed yet."""
        starts = [one.start_seconds for one in part.stretches]
        predictions = self.predict([one.extraction for one in part.stretches], starts)
        for one, prediction in zip(part.stretches, predictions, strict=True):
            yield WindowScore(
                number=one.number,
                start_seconds=one.start_seconds,
                end_seconds=one.end_seconds,
                scores=prediction.scores,
                modalities=prediction.modalities,
                text=one.text,
                speaker=one.speaker,
                notes=tuple(one.extraction.notes),
            )


class Predictor(Predicts):
    """Runs a bundle's model.

    The prediction with all modalities, those with each alone, and all others that Shapley values need come from one
    pass over every subset, so that nothing is computed twice.

    Args:
        bundle: what training left; its model is moved to the device.
        device: of torch, where the model computes.
    """

    def __init__(self, bundle: Bundle, *, device: str = "cpu") -> None:
        self.bundle = bundle
        self._device = device
        bundle.model.to(device)
        config = bundle.model.config
        # A head that needs one grid, fed features that lie on one already, takes no clips of other lengths beside them.
        own_steps = config.grid is None and config.grid_steps is None
        self._together = 1 if bundle.model.head.needs_alignment and own_steps else TOGETHER

    def predict(self, found: Sequence[Extraction], starts: Sequence[float] | None = None) -> list[Prediction]:
        """One prediction for each extraction, in order; see `Predicts.predict`."""
        placed = [self._place(one, start) for one, start in zip(found, starts or [0.0] * len(found), strict=True)]
        usable = [index for index, one in enumerate(placed) if one.masks]
        results = [Prediction({}, self._modalities(one.extraction, {}, {}, {})) for one in placed]
        for start in range(0, len(usable), self._together):
            chosen = usable[start : start + self._together]
            for index, result in zip(chosen, self._batch([placed[index] for index in chosen]), strict=True):
                results[index] = result
        return results

    def _place(self, found: Extraction, start_seconds: float) -> _Placed:
        """The features of a stretch as the model takes them: on its grid, where it has one."""
        grid = self.bundle.model.config.grid
        if grid is None:
            there = {key: found.sequences[key] for key in self.bundle.extractors if len(found.sequences[key])}
            masks = {key: np.ones(len(sequence), np.bool_) for key, sequence in there.items()}
            return _Placed(found, {key: sequence.values for key, sequence in there.items()}, masks)
        aligned = on_grid({key: found.sequences[key] for key in self.bundle.extractors}, grid, start_seconds)
        masks = {key: present for key, present in aligned.present.items() if present.any()}
        missed = [key for key in aligned.present if key not in masks and len(found.sequences[key])]
        found = replace(
            found,
            sequences=found.sequences | {key: FeatureSequence.empty(found.sequences[key].names) for key in missed},
            missing=found.missing | dict.fromkeys(missed, nothing_overlaps(grid)),
        )
        return _Placed(found, {key: aligned.values[key] for key in masks}, masks)

    def _batch(self, found: Sequence[_Placed]) -> Iterator[Prediction]:
        import torch

        from mmsa.model import split_outputs

        tasks = self.bundle.tasks
        with torch.inference_mode():
            subsets = _run(self.bundle, found, self._device)
        chosen = {name: part.argmax(dim=1) for name, part in split_outputs(tasks, subsets.fused).items()}
        moved = {key: split_outputs(tasks, value) for key, value in subsets.moved.items()}
        for row, one in enumerate(found):
            contribution = {
                key: {name: number(float(own[name][row, chosen[name][row]])) for name in chosen}
                for key, own in moved.items()
            }
            alone = {key: self._scores(value[row], intervals=False) for key, value in subsets.alone.items()}
            weights = {key: number(float(value[row])) for key, value in subsets.weights.items()}
            yield Prediction(
                self._scores(subsets.fused[row], intervals=True),
                self._modalities(one.extraction, contribution, alone, weights),
            )

    def _modalities(
        self,
        found: Extraction,
        contribution: Mapping[str, Mapping[str, float]],
        alone: Mapping[str, Mapping[str, TaskScore]],
        weights: Mapping[str, float],
    ) -> dict[str, ModalityScore]:
        results = {}
        for key in self.bundle.extractors:
            steps = len(found.sequences[key])
            results[key] = ModalityScore(
                present=steps > 0,
                reason=None if steps else found.missing.get(key, "no data"),
                steps=steps,
                weight=(weights[key] if steps else 0.0) if key in weights else None,
                contribution=contribution.get(key, {}) if steps else {},
                scores=alone.get(key, {}) if steps else {},
            )
        return results

    def _scores(self, prediction: Tensor, *, intervals: bool) -> dict[str, TaskScore]:
        from mmsa.model import readable, split_outputs

        fitted = self.bundle.calibration
        scores = {}
        parts = split_outputs(self.bundle.tasks, readable(self.bundle.tasks, prediction.unsqueeze(0)))
        for task in self.bundle.tasks:
            part = parts[task.name][0]
            if isinstance(task, Classification | MultiLabel):
                probabilities = dict(zip(task.classes, map(number, part.tolist()), strict=True))
                if isinstance(task, MultiLabel):
                    held = tuple(name for name, share in probabilities.items() if share > 0.5)
                    scores[task.name] = TaskScore(labels=held, probabilities=probabilities)
                else:
                    label = max(probabilities, key=lambda name: probabilities[name])
                    scores[task.name] = TaskScore(label=label, probabilities=probabilities)
                continue
            value = min(max(float(part[0]), task.low), task.high)
            span = fitted.interval(task, value) if fitted is not None and intervals else None
            rounded = None if span is None else (number(span[0]), number(span[1]))
            scores[task.name] = TaskScore(value=number(value), interval=rounded)
        return scores


@dataclass(frozen=True, eq=False)
class _Placed:
    """A stretch as the model takes it: values `(T, D)` and masks `(T,)` of the modalities that it has."""

    extraction: Extraction
    values: Mapping[str, NDArray[np.float32]]
    masks: Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class _Subsets:
    """What a batch of `B` gives: calibrated outputs `(B, O)`, by modality where there is one each."""

    fused: Tensor
    alone: Mapping[str, Tensor]
    moved: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]


def _run(bundle: Bundle, found: Sequence[_Placed], device: str) -> _Subsets:
    import torch

    from fusion import shapley_values
    from mmsa.model import readable

    model, tasks, fitted = bundle.model, bundle.tasks, bundle.calibration
    inputs = model.prepare({key: one.to(device) for key, one in _stack(found).items()})
    seen: list[FusionOutput] = []

    def calibrated(prediction: Tensor) -> Tensor:
        return prediction if fitted is None else fitted.apply(tasks, prediction)

    def explained(output: FusionOutput) -> Tensor:
        seen.append(output)
        return readable(tasks, calibrated(output.prediction))

    moved = shapley_values(model.head, inputs, output=explained, baseline=torch.tensor(bundle.baseline, device=device))
    output, count = seen[0], len(found)  # one pass: subset by subset (their bits count up), clip by clip within
    rows = output.prediction.view(-1, count, bundle.model.config.output_dim)
    keys = [key for key in model.head.modalities if key in inputs]
    return _Subsets(
        fused=calibrated(rows[-1]).cpu(),
        alone={
            key: calibrated(output.unimodal[key][-count:] if key in output.unimodal else rows[2**place - 1]).cpu()
            for place, key in enumerate(keys)
        },
        moved={key: value.cpu() for key, value in moved.items()},
        weights={key: weight[-count:].cpu() for key, weight in output.weights.items()},
    )


def _stack(found: Sequence[_Placed]) -> dict[str, ModalitySequence]:
    """The stretches as one batch; modalities that none of them has are left out."""
    import torch

    from fusion import ModalitySequence

    stacked = {}
    for key in sorted({key for one in found for key in one.masks}):
        width = next(one.values[key].shape[1] for one in found if key in one.masks)
        nothing, never = np.zeros((0, width), np.float32), np.zeros(0, np.bool_)
        values = ModalitySequence.pad([torch.from_numpy(one.values.get(key, nothing)) for one in found])
        mask = torch.zeros_like(values.mask)
        for row, one in enumerate(found):
            own = one.masks.get(key, never)
            mask[row, : len(own)] = torch.from_numpy(own)
        stacked[key] = ModalitySequence(values.values, mask)
    return stacked
