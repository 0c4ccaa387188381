"""From kept predictions to a ranked leaderboard with intervals and tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmsa.benchmarking.facts import ClipFacts, CorpusFacts, load_facts
from mmsa.benchmarking.pooled import Key, Pooled, pool
from mmsa.benchmarking.rows import Members, Row, compare_rows, rank
from mmsa.benchmarking.slices import SliceTable, cut
from mmsa.benchmarking.statistics import FEW_CLUSTERS, clusters_of
from mmsa.benchmarking.store import Result
from mmsa.errors import UsageError, unknown
from mmsa.metrics import headline, metric_names
from mmsa.recipe import Recipe
from mmsa.tasks import Classification, Regression, Task

HEADLINES = {
    "mosi": ("mae", "corr", "acc_7", "acc_2_has0", "f1_has0", "acc_2_non0", "f1_non0"),
    "sims": ("mae", "corr", "acc_2", "f1", "acc_3", "acc_5"),
    "simsv2": ("mae", "corr", "acc_2", "f1", "acc_3", "acc_5"),
    "plain": ("mae", "corr", "ccc"),
}
CLASS_HEADLINES = ("weighted_f1", "accuracy", "macro_f1", "uar")
MULTI_HEADLINES = ("wa", "weighted_f1", "micro_f1", "macro_f1")


@dataclass(frozen=True)
class Report:
    """Everything that the tables say.

    Attributes:
        name: of the recipe.
        command: what made them.
        metrics: the columns; the first one ranks.
        rows: best first.
        corpora: what must be known of each.
        seeds: asked for.
        reference: the recipe's.
        clusters: what was resampled whole, and how many there are.
        resamples: of interval and test.
        features: by modality, what made the features.
        settings: that all rows share.
        machines: what it was trained on.
        versions: of mmsa and the libraries.
        notes: what must be read with the table.
        slices: parts of the test split.
        results: every training.
    """

    name: str
    command: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    corpora: tuple[CorpusFacts, ...]
    seeds: tuple[int, ...]
    reference: str | None
    clusters: tuple[str, int]
    resamples: int
    features: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, object]
    machines: tuple[str, ...]
    versions: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    slices: tuple[SliceTable, ...]
    results: tuple[Result, ...] = field(repr=False, default=())

    def flat(self) -> dict[str, float]:
        """Means and deviations as MLflow metrics, `"<row>/<task>.<metric>"`."""
        values: dict[str, float] = {}
        for row in self.rows:
            for metric, value in row.values.items():
                values[f"{row.name}/{metric}"] = value.mean
                values[f"{row.name}/{metric}.std"] = value.std
                if value.test is not None:
                    values[f"{row.name}/{metric}.p"] = value.test.adjusted
        allowed = {key.replace("+", "-").replace("=", "-"): value for key, value in values.items()}
        return {key: value for key, value in allowed.items() if not math.isnan(value)}


def make_report(
    recipe: Recipe, out: Path, folders: Mapping[Key, Path], *, command: str | None, failed: Mapping[str, str]
) -> Report:
    """Compute the leaderboard of the trainings that are there.

    Args:
        recipe: rows, metrics, reference, slices.
        out: the output folder.
        folders: of the trainings, by row, corpus and seed; those that do not exist are reported as missing.
        command: what the table says it was made with.
        failed: what went wrong, by training.

    Raises:
        UsageError: no row is whole, or a metric that no row has.
    """
    there = {key: folder for key, folder in folders.items() if (folder / "result.json").is_file()}
    facts = _facts(recipe, out)
    pooled: dict[str, Pooled] = {}
    notes: list[str] = []
    for entry in recipe.heads:
        seeds: tuple[int | None, ...] = (None,) if entry.classical else recipe.seeds
        own = pool(entry.name, recipe.corpora_of(entry), seeds, there, facts)
        if own is None:
            notes.append(f"{entry.name}: no run is there.")
            continue
        pooled[entry.name] = own
        if len(own.seeds) < len(seeds):
            notes.append(f"{entry.name}: only {len(own.seeds)} of {len(seeds)} seeds are there.")
    if not pooled:
        told = "\n".join(f"  {key}: {reason}" for key, reason in failed.items())
        raise UsageError("no training succeeded" + (f":\n{told}" if told else f": nothing of this recipe is in {out}"))
    metrics = _columns(recipe, pooled)
    kind, members = _clusters(recipe, pooled)
    rows = compare_rows(recipe, pooled, metrics, members, notes)
    rows.sort(key=lambda row: rank(row, metrics[0]))
    slices = [table for each in recipe.slices for table in cut(each, metrics, {r.name: pooled[r.name] for r in rows})]
    results = tuple(result for own in pooled.values() for result in own.results)
    count = max(int(own.max()) + 1 for own in members.values())
    notes += _notes(results, kind, count, failed)
    return Report(
        name=recipe.name,
        command=command or "mmsa.benchmark(…)",
        metrics=metrics,
        rows=tuple(rows),
        corpora=tuple(facts[name] for name in dict.fromkeys(result.corpus for result in results)),
        seeds=recipe.seeds,
        reference=recipe.reference,
        clusters=(kind, count),
        resamples=recipe.resamples,
        features=_features(results),
        settings=dict(recipe.train),
        machines=tuple(dict.fromkeys(result.machine for result in results)),
        versions=_versions(results),
        notes=tuple(notes),
        slices=tuple(slices),
        results=results,
    )


def _facts(recipe: Recipe, out: Path) -> dict[str, CorpusFacts]:
    names = dict.fromkeys(name for entry in recipe.heads for name in recipe.corpora_of(entry))
    found = {name: load_facts(out, name) for name in names}
    return {name: facts or CorpusFacts(name, "", {}, {}) for name, facts in found.items()}


def _columns(recipe: Recipe, pooled: Mapping[str, Pooled]) -> tuple[str, ...]:
    tasks: dict[str, Task] = {}
    for own in pooled.values():
        tasks.update({task.name: task for task in own.tasks if task.name not in tasks})
    if recipe.metrics is None:
        return tuple(f"{task.name}.{name}" for task in tasks.values() for name in _headlines(task))
    known = [f"{task.name}.{name}" for task in tasks.values() for name in metric_names(task)]
    for metric in recipe.metrics:
        if metric not in known:
            raise unknown("metric", metric, known)
    return recipe.metrics


def _headlines(task: Task) -> tuple[str, ...]:
    if isinstance(task, Regression):
        return HEADLINES[task.metrics]
    names = CLASS_HEADLINES if isinstance(task, Classification) else MULTI_HEADLINES
    return (headline(task), *(name for name in names if name != headline(task)))


def _clusters(recipe: Recipe, pooled: Mapping[str, Pooled]) -> tuple[str, dict[str, Members]]:
    """What is resampled whole, and each clip's cluster by row."""
    everyone = [facts for own in pooled.values() for facts in own.facts]
    kind: str = recipe.cluster
    if kind == "auto":
        kind = next((k for k in ("dialogue", "speaker") if any(getattr(f, k) for f in everyone)), "clip")
    if kind != "clip" and not any(getattr(facts, kind) for facts in everyone):
        raise UsageError(f"cluster: no clip of these corpora has a {kind}; use auto or clip")
    return kind, {
        row: clusters_of([_cluster(kind, f, clip) for f, clip in zip(own.facts, own.clips, strict=True)])
        for row, own in pooled.items()
    }


def _cluster(kind: str, facts: ClipFacts, clip: str) -> tuple[str, str]:
    key = None if kind == "clip" else getattr(facts, kind)
    return ("clip", clip) if key is None else (kind, key)


def _features(results: Sequence[Result]) -> dict[str, tuple[str, ...]]:
    """What made each modality's features, in words."""
    found: dict[str, dict[str, None]] = {}
    for result in results:
        for modality, spec in result.features.items():
            parameters = ", ".join(f"{key} {value}" for key, value in spec["parameters"].items())
            text = f"{spec['name']} ({spec['tool']} {spec['version']}{'; ' + parameters if parameters else ''})"
            found.setdefault(modality, {})[text] = None
    return {key: tuple(texts) for key, texts in sorted(found.items())}


def _versions(results: Sequence[Result]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for result in results:
        for key, version in result.versions.items():
            found.setdefault(key, {})[version] = None
    return {key: tuple(versions) for key, versions in found.items()}


def _notes(results: Sequence[Result], kind: str, clusters: int, failed: Mapping[str, str]) -> list[str]:
    notes = []
    mixed = [key for key, versions in _versions(results).items() if len(versions) > 1]
    if mixed:
        notes.append(f"The runs were made with different versions of {', '.join(mixed)}.")
    if clusters < FEW_CLUSTERS:
        notes.append(f"There are only {clusters} clusters ({kind}): intervals and p are rough.")
    alone = [result.row for result in results if result.seed is None]
    if alone:
        names = ", ".join(dict.fromkeys(alone))
        notes.append(f"{names}: nothing in it depends on a seed, so it is run once and stands for every seed.")
    return [*notes, *(f"Failed: {key}: {reason}" for key, reason in failed.items())]
