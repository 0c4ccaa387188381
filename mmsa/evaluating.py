"""`evaluate`: a finished run on a split of its own or another corpus, as it is or made worse."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmsa.corpora.clip import SPLITS, Corpus, Split
from mmsa.errors import UsageError, unknown
from mmsa.judging import Judge, Outputs
from mmsa.robustness.curves import Curve, Point, missing_curve
from mmsa.robustness.noise import Damage, Noise, checked_noise
from mmsa.subject import Material, Subject, open_material, open_subject
from mmsa.tracking import Tracker, client, open_run
from mmsa.transfer import map_tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmsa.features import FeatureTable

SCHEMA = "mmsa.evaluate/1"


@dataclass(frozen=True)
class Evaluation:
    """How a run fares on a split.

    Attributes:
        id: of the MLflow run that holds the result.
        run: the evaluated run: MLflow's id, or the bundle folder.
        corpus: name of the corpus.
        split: which of its splits.
        clips: how many.
        modalities: what the model was given.
        metrics: `"<task>.<metric>"` by subset of modalities joined with `"+"`; the last one is of all of them, and the
            only one unless the others were asked for.
        missing: under modalities missing at random, or None.
        noise: under each kind of noise.
        notes: what a reader must know.
        artifacts: where tables, pictures and predictions were also written, or None.
    """

    id: str
    run: str
    corpus: str
    split: str
    clips: int
    modalities: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, float]]
    missing: Curve | None = None
    noise: tuple[Curve, ...] = ()
    notes: tuple[str, ...] = ()
    artifacts: Path | None = None

    @property
    def test_metrics(self) -> Mapping[str, float]:
        """With every modality given."""
        return self.metrics["+".join(self.modalities)]

    @property
    def curves(self) -> tuple[Curve, ...]:
        """All of them."""
        return (*(() if self.missing is None else (self.missing,)), *self.noise)

    def to_dict(self) -> dict[str, Any]:
        """One JSON line of schema `mmsa.evaluate/1`."""
        plain = ("id", "run", "corpus", "split", "clips")
        return {
            "schema": SCHEMA,
            **{key: getattr(self, key) for key in plain},
            "modalities": list(self.modalities),
            "metrics": {key: dict(value) for key, value in self.metrics.items()},
            "curves": [curve.to_dict() for curve in self.curves],
            "notes": list(self.notes),
        }


@dataclass
class _Found:
    """What was computed, before it is logged."""

    subsets: dict[tuple[str, ...], Outputs]
    curves: list[Curve] = field(default_factory=list)
    noisy: dict[str, Outputs] = field(default_factory=dict)


def evaluate(
    run: str | Path = "latest",
    *,
    corpus: str | None = None,
    root: Path | str | None = None,
    split: Split = "test",
    modalities: Sequence[str] | None = None,
    drop_modalities: bool = False,
    noise: Mapping[str, Sequence[float]] | None = None,
    seed: int = 0,
    repeats: int = 5,
    output: Path | str | None = None,
    device: str = "auto",
    jobs: int | None = None,
    trust_extractors: bool = False,
) -> Evaluation:
    """Evaluate a finished run, and log the result as an MLflow run nested in it.

    With nothing but `run`, this repeats the run's own test. Nothing is trained or tuned, whatever the corpus.

    Args:
        run: an MLflow run id, a bundle folder, or `"latest"`.
        corpus: another corpus than the run's own. Tasks are matched by name (see `mmsa.transfer`).
        root: the corpus's folder, as for `mmsa.load_corpus`.
        split: which of its splits.
        modalities: those to give the model; None gives all that the clips have.
        drop_modalities: also evaluate every subset of modalities, and modalities missing at random.
        noise: levels by kind of noise (see `mmsa.robustness.noise.NOISES`), laid under the media before features are
            extracted: `{"audio": [20, 10, 0]}`.
        seed: of noise and of what is missing.
        repeats: draws of missing modalities that are averaged.
        output: folder to which tables, pictures and predictions are also written.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        jobs: processes that extract features; None is one per core.
        trust_extractors: import extractors that the bundle names by dotted path, which are code.

    Raises:
        UsageError: what was asked for cannot be done; said before anything is extracted where it can be known.
    """
    from mmsa.runs import choose_device

    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if repeats < 1:
        raise UsageError(f"repeats must be at least 1, not {repeats}")
    wanted = checked_noise(noise or {})
    subject = open_subject(run)
    where = choose_device(device)
    _check_noise(subject, wanted, modalities)
    whole = subject.corpus(corpus, root)
    maps = map_tasks(subject.bundle.tasks, whole.tasks, whole.name)
    found = open_material(
        subject, whole, split, modalities=modalities, jobs=jobs, trust_extractors=trust_extractors, device=device
    )
    _check_given(found, wanted)
    model = subject.bundle.model.to(where)
    judge = Judge(model, subject.bundle.tasks, maps, found.corpus, split, where)
    results = _subsets(judge, found, drop_modalities)
    if drop_modalities:
        results.curves.append(_missing(judge, found, results.subsets, seed, repeats))
    for kind, levels in wanted:
        _add_noise(
            results,
            judge,
            found,
            Damage(_as_heard(whole, found), split, seed),
            kind,
            levels,
            jobs,
            subject.feature_dtype,
        )
    notes = tuple(dict.fromkeys(filter(None, (whole.note, *(n for own in maps for n in own.notes), *found.notes))))
    settings = {"corpus": whole.name, "split": split, "seed": seed, "repeats": repeats}
    return _keep(subject, judge, found, results, notes, settings, None if output is None else Path(output))


def _check_noise(
    subject: Subject, wanted: Sequence[tuple[Noise, tuple[float, ...]]], modalities: Sequence[str] | None
) -> None:
    """Before anything is extracted: noise can only be laid under media that the model is given."""
    from mmsa.precomputed import is_precomputed

    for kind, _ in wanted:
        if kind.modality not in subject.modalities or (modalities is not None and kind.modality not in modalities):
            raise UsageError(
                f"--noise {kind.name} changes {kind.modality}, which this model is not given: it is given "
                f"{', '.join(modalities or subject.modalities)}"
            )
        if is_precomputed(subject.bundle.extractors[kind.modality]):
            raise UsageError(
                f"--noise {kind.name} is laid under media, but this model's {kind.modality} features came ready-made: "
                "there is no media to lay it under"
            )


def _check_given(found: Material, wanted: Sequence[tuple[Noise, tuple[float, ...]]]) -> None:
    for kind, _ in wanted:
        if kind.modality not in found.extractors:
            raise UsageError(f"--noise {kind.name} changes {kind.modality}, which no clip has: leave it out")


def _subsets(judge: Judge, found: Material, every: bool) -> _Found:
    from mmsa.evaluation import modality_subsets

    subsets = modality_subsets(found.modalities) if every else [found.modalities]
    return _Found({subset: judge.answer(found.tables, subset) for subset in subsets})


def present(found: Material) -> NDArray[np.bool_]:
    """`(N, M)`: which of the clips under test have which modality."""
    rows = np.flatnonzero([clip.split == found.split for clip in found.corpus.clips])
    return np.stack([np.diff(found.tables[key].offsets)[rows] > 0 for key in found.modalities], axis=1)


def _missing(
    judge: Judge, found: Material, subsets: Mapping[tuple[str, ...], Outputs], seed: int, repeats: int
) -> Curve:
    return missing_curve(subsets, found.modalities, present(found), judge.measure, seed=seed, repeats=repeats)


def _add_noise(
    results: _Found,
    judge: Judge,
    found: Material,
    damage: Damage,
    kind: Noise,
    levels: Sequence[float],
    jobs: int | None,
    dtype: str,
) -> None:
    """One curve; features of each level go to the store, so that a stopped evaluation goes on where it was."""
    from mmsa.features import fill_store

    own = kind.modality
    others = tuple(key for key in found.modalities if key != own)

    def alone(table: FeatureTable) -> dict[str, float]:
        return judge.measure(judge.answer({**found.tables, own: table}, (own,))) if others else {}

    clean = found.tables[own]
    untouched = judge.measure(results.subsets[found.modalities])
    points = [Point(None, untouched, alone=alone(clean), without=_lacking(found, clean))]
    for level in levels:
        corpus, extractor = damage.apply(kind, level, found.corpus, found.extractors[own])
        table = fill_store(corpus, {own: extractor}, jobs=jobs, store_dtype=dtype)[0][own]
        outputs = judge.answer({**found.tables, own: table}, found.modalities)
        results.noisy[f"{kind.name}_{level:g}"] = outputs
        points.append(
            Point(
                level,
                judge.measure(outputs),
                alone=alone(table),
                realised=damage.realised(kind, found.corpus, corpus),
                without=_lacking(found, table),
            )
        )
    floor = judge.measure(judge.answer(found.tables, others)) if others else {}
    results.curves.append(Curve(kind, tuple(points), floor, points[0].without))


def _as_heard(whole: Corpus, found: Material) -> Corpus:
    """The whole corpus, with the words that were recognised in the clips under test."""
    heard = {clip.id: clip for clip in found.corpus.clips}
    return replace(whole, clips=tuple(heard.get(clip.id, clip) for clip in whole.clips))


def _lacking(found: Material, table: FeatureTable) -> tuple[str, ...]:
    """Ids of clips under test without a step."""
    empty = np.diff(table.offsets) == 0
    pairs = zip(found.corpus.clips, empty, strict=True)
    return tuple(clip.id for clip, lacks in pairs if lacks and clip.split == found.split)


def _keep(
    subject: Subject,
    judge: Judge,
    found: Material,
    results: _Found,
    notes: tuple[str, ...],
    settings: Mapping[str, object],
    output: Path | None,
) -> Evaluation:
    metrics = {"+".join(subset): judge.measure(outputs) for subset, outputs in results.subsets.items()}
    evaluated = subject.run_id or subject.name
    missing = [curve for curve in results.curves if not curve.noise.modality]
    tags = {
        "mmsa.corpus": judge.corpus.name,
        "mmsa.head": judge.model.config.head,
        "mmsa.modalities": "+".join(found.modalities),
        "mmsa.evaluated_run": evaluated,
        **({"mlflow.note.content": "\n\n".join(notes)} if notes else {}),
    }
    experiment = _experiment_of(subject) or f"mmsa-{judge.corpus.name}"
    name = f"evaluate-{judge.corpus.name}-{judge.split}"
    with open_run(experiment, name, tags, subject.run_id, kind="evaluate") as tracker:
        result = Evaluation(
            id=tracker.run_id,
            run=evaluated,
            corpus=judge.corpus.name,
            split=judge.split,
            clips=len(judge.clips),
            modalities=found.modalities,
            metrics=metrics,
            missing=missing[0] if missing else None,
            noise=tuple(curve for curve in results.curves if curve.noise.modality),
            notes=notes,
            artifacts=output,
        )
        tracker.params({**settings, "modalities": "+".join(found.modalities), "evaluated_run": evaluated})
        _log_metrics(tracker, result)
        with tempfile.TemporaryDirectory() as temporary:
            write_files(Path(temporary), result, judge, results)
            tracker.artifacts(Path(temporary))
            if output is not None:
                _copy(Path(temporary), output)
    return result


def _experiment_of(subject: Subject) -> str | None:
    """MLflow shows a nested run only beside its parent, in one experiment."""
    if subject.run_id is None:
        return None
    store = client()
    return str(store.get_experiment(store.get_run(subject.run_id).info.experiment_id).name)


def _log_metrics(tracker: Tracker, result: Evaluation) -> None:
    """As training names them; curves with the level as the step (see `Noise.step`), the untouched input apart."""
    split = result.split
    values = {f"{split}/{key}": value for key, value in result.test_metrics.items()}
    for subset, metrics in result.metrics.items():
        values.update({f"{split}-{subset.replace('+', '-')}/{key}": value for key, value in metrics.items()})
    tracker.metrics(values)
    for curve in result.curves:
        for point in curve.points:
            if point.level is not None:
                found = {f"{curve.noise.name}/{key}": value for key, value in point.metrics.items()}
                found.update({f"{curve.noise.name}-alone/{key}": value for key, value in point.alone.items()})
                tracker.metrics(found, step=curve.noise.step(point.level))


def write_files(folder: Path, result: Evaluation, judge: Judge, results: _Found) -> None:
    """Tables, pictures and every prediction."""
    from mmsa.robustness.report import draw_curve, markdown, write_metrics, write_predictions

    title = f"{judge.model.config.head} on {result.corpus}, {result.split} split, {result.clips} clips"
    page = markdown(title, result.metrics, result.curves, result.notes)
    (folder / "evaluation.md").write_text(page, encoding="utf-8")
    (folder / "evaluation.json").write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
    write_metrics(folder / "metrics.csv", result.metrics, result.curves)
    for curve in result.curves:
        draw_curve(folder / f"curve_{curve.noise.name}.png", curve)
    kept = {"+".join(subset): outputs for subset, outputs in results.subsets.items()}
    for name, outputs in {**kept, **results.noisy}.items():
        path = folder / "predictions" / f"{name}.csv"
        write_predictions(path, judge.clips, judge.tasks, judge.labels, outputs)


def _copy(source: Path, target: Path) -> None:
    """Each file appears whole."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            partial = place.with_name(f".{place.name}.{os.getpid()}.part")
            shutil.copyfile(path, partial)
            partial.replace(place)
