"""Scoring: a bundle and a media file in, sentiment and emotion out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsa.bundle import Bundle, load_bundle
from mmsa.errors import UsageError
from mmsa.tasks import Classification
from mmsa.tracking import find_bundle

if TYPE_CHECKING:
    from torch import Tensor

    from extractors import Extraction, Transcript
    from fusion import FusionOutput, ModalitySequence

SCHEMA = "mmsa.score/1"
SIDECARS = (".srt", ".vtt", ".txt")


@dataclass(frozen=True)
class TaskScore:
    """What was predicted for one task.

    Attributes:
        value: the score of a regression task, clipped to the task's range; None for classification.
        label: the most probable class; None for regression.
        probabilities: by class, summing to 1; empty for regression.
    """

    value: float | None = None
    label: str | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        if self.label is None:
            return {"value": self.value}
        return {"label": self.label, "probabilities": dict(self.probabilities)}


@dataclass(frozen=True)
class ModalityScore:
    """What one modality said.

    Attributes:
        present: whether the file has it.
        reason: why it is missing, or None.
        steps: number of feature steps.
        weight: its share in the fused prediction, in [0, 1], where the head knows; else None.
        contribution: by task, how far it moved the fused score (or the probability of the fused class) from the
            model's mean on its training split: exact Shapley values, which sum to the difference over modalities.
        scores: the prediction from this modality alone, by task; empty when missing.
    """

    present: bool
    reason: str | None
    steps: int
    weight: float | None
    contribution: Mapping[str, float]
    scores: Mapping[str, TaskScore]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "present": self.present,
            "reason": self.reason,
            "steps": self.steps,
            "weight": self.weight,
            "contribution": dict(self.contribution),
            **{name: score.to_dict() for name, score in self.scores.items()},
        }


@dataclass(frozen=True)
class Score:
    """The result for one file.

    Attributes:
        path: as given.
        duration_seconds: of the media.
        scores: fused prediction by task; empty on an error.
        modalities: what each modality said.
        notes: oddities of the file (a truncated stream, say).
        error: why the file could not be scored, or None.
    """

    path: str
    duration_seconds: float | None = None
    scores: Mapping[str, TaskScore] = field(default_factory=dict)
    modalities: Mapping[str, ModalityScore] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """One JSON line of schema `mmsa.score/1`; an error row has `error` and no scores."""
        if self.error is not None:
            return {"schema": SCHEMA, "path": self.path, "error": self.error}
        return {
            "schema": SCHEMA,
            "path": self.path,
            "duration_seconds": self.duration_seconds,
            **{name: score.to_dict() for name, score in self.scores.items()},
            "modalities": {key: value.to_dict() for key, value in self.modalities.items()},
            "missing": {key: value.reason for key, value in self.modalities.items() if not value.present},
            "notes": list(self.notes),
        }


class Scorer:
    """A trained model with the extractors it was trained on.

    Args:
        bundle: what training left.
        trust_extractors: import extractors that the bundle names by dotted path. They are code, and a bundle from
            someone else may name any module that lies on the import path.

    Raises:
        UsageError: an extractor of the bundle cannot be built here, or is not trusted, or the model was trained on
            features that came ready-made.
    """

    def __init__(self, bundle: Bundle, *, trust_extractors: bool = False) -> None:
        import extractors as ex
        from mmsa.precomputed import refuse_precomputed

        refuse_precomputed(bundle.extractors)
        foreign = sorted({spec.name for spec in bundle.extractors.values()} - set(ex.available()))
        if foreign and not trust_extractors:
            raise UsageError(
                f"this model uses {', '.join(foreign)}, code that is not part of mmsa: if you trust whoever made the "
                "model, pass --trust-extractors (trust_extractors=True)"
            )
        self.bundle = bundle
        try:
            self.extractors = {key: ex.rebuild(spec) for key, spec in bundle.extractors.items()}
        except (ValueError, OSError, ImportError, ex.ToolError) as error:
            raise UsageError(f"an extractor of this model cannot be built here: {error}") from error

    def score(self, path: Path | str, *, text: str | None = None) -> Score:
        """Score one media file as a single clip.

        Args:
            path: anything FFmpeg reads.
            text: what is said; None looks for a sidecar `.srt`, `.vtt` or `.txt` beside the file.

        Raises:
            extractors.MediaError: the file cannot be read.
            UsageError: its sidecar cannot be read, or the file has none of the model's modalities.
        """
        import extractors as ex

        path = Path(path)
        transcript: Transcript | str | None = text if text is not None else _sidecar(path)
        found = ex.extract(path, self.extractors, transcript=transcript)
        present = {key: sequence for key, sequence in found.sequences.items() if len(sequence)}
        if not present:
            reasons = "; ".join(f"{key}: {reason}" for key, reason in sorted(found.missing.items()))
            raise UsageError(f"nothing to score in {path} ({reasons})")
        return self._result(str(path), found)

    def score_many(self, paths: Iterable[Path | str], *, text: str | None = None) -> Iterator[Score]:
        """Score files one after the other; one that fails becomes a `Score` with its `error`."""
        import extractors as ex

        for path in paths:
            try:
                yield self.score(path, text=text)
            except (ex.MediaError, UsageError) as error:
                yield Score(str(path), error=str(error))

    def _result(self, path: str, found: Extraction) -> Score:
        import torch

        from mmsa.data import inputs_from

        with torch.inference_mode():
            inputs = inputs_from({key: seq for key, seq in found.sequences.items() if len(seq)})
            output = self.bundle.model(inputs)
            alone = self._alone(inputs, output)
            moved = self._contributions(inputs, output)
        weights = {key: float(weight[0]) for key, weight in output.weights.items()}
        modalities = {
            key: ModalityScore(
                present=key in inputs,
                reason=None if key in inputs else found.missing.get(key, "no data"),
                steps=len(found.sequences[key]),
                weight=weights.get(key) if key in inputs or key not in weights else 0.0,
                contribution=moved[key] if key in inputs else {},
                scores=self._task_scores(alone[key]) if key in inputs else {},
            )
            for key in self.bundle.extractors
        }
        return Score(
            path=path,
            duration_seconds=found.duration_seconds,
            scores=self._task_scores(output.prediction[0]),
            modalities=modalities,
            notes=tuple(found.notes),
        )

    def _alone(self, inputs: Mapping[str, ModalitySequence], output: FusionOutput) -> dict[str, Tensor]:
        """`(O,)` per modality: the head's own unimodal prediction, else what it predicts from that one alone."""
        return {
            key: output.unimodal[key][0] if key in output.unimodal else self.bundle.model({key: seq}).prediction[0]
            for key, seq in inputs.items()
        }

    def _contributions(
        self, inputs: Mapping[str, ModalitySequence], output: FusionOutput
    ) -> dict[str, dict[str, float]]:
        """By modality and task: the Shapley value of the fused score, or of the fused class's probability."""
        import torch

        from fusion import shapley_values
        from mmsa.model import readable, split_outputs

        tasks, model = self.bundle.tasks, self.bundle.model
        values = shapley_values(
            model.head,
            model.prepare(inputs),
            output=lambda found: readable(tasks, found.prediction),
            baseline=torch.tensor(self.bundle.baseline),
        )
        fused = split_outputs(tasks, output.prediction)
        chosen = {name: int(part.argmax(dim=1)) for name, part in fused.items()}
        parts = {key: split_outputs(tasks, value) for key, value in values.items()}
        return {key: {name: float(own[name][0, chosen[name]]) for name in chosen} for key, own in parts.items()}

    def _task_scores(self, prediction: Tensor) -> dict[str, TaskScore]:
        from mmsa.model import split_outputs

        scores = {}
        parts = split_outputs(self.bundle.tasks, prediction.unsqueeze(0))
        for task in self.bundle.tasks:
            part = parts[task.name][0]
            if isinstance(task, Classification):
                shares = part.softmax(dim=0).tolist()
                probabilities = dict(zip(task.classes, shares, strict=True))
                label = max(probabilities, key=lambda name: probabilities[name])
                scores[task.name] = TaskScore(label=label, probabilities=probabilities)
            else:
                scores[task.name] = TaskScore(value=min(max(float(part[0]), task.low), task.high))
        return scores


def _sidecar(path: Path) -> Transcript | None:
    import extractors as ex

    for suffix in SIDECARS:
        beside = path.with_suffix(suffix)
        if beside.is_file() and beside != path:
            try:
                return ex.read_transcript(beside)
            except (ValueError, OSError) as error:
                raise UsageError(f"the transcript beside {path.name} cannot be read: {error}") from error
    return None


def load_scorer(run: str | Path, *, trust_extractors: bool = False) -> Scorer:
    """A scorer from a run.

    Args:
        run: an MLflow run id, a bundle folder, or `"latest"`.
        trust_extractors: see `Scorer`.

    Raises:
        UsageError: there is no such run, or its bundle cannot be used here.
    """
    return Scorer(load_bundle(find_bundle(str(run))), trust_extractors=trust_extractors)
