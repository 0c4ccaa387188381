"""A report as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmsa.benchmarking.report import Report
from mmsa.benchmarking.rows import Row, Value
from mmsa.benchmarking.slices import SliceTable
from mmsa.benchmarking.store import write_atomically
from mmsa.corpora.clip import SPLITS

SIGNIFICANT = 0.05
SHOWN_VERSIONS = ("python", "mmsa-framework", "torch", "transformers", "scikit-learn", "numpy")


def publish(report: Report, out: Path) -> Path:
    """Write `OUT/tables/<recipe>.md`, `.csv`, `.json`, `_runs.csv` and `_slices.csv`; returns the folder."""
    folder = out / "tables"
    with write_atomically(folder / f"{report.name}.md") as file:
        file.write(markdown(report))
    _write_csv(folder / f"{report.name}.csv", _leaderboard_rows(report))
    _write_csv(folder / f"{report.name}_runs.csv", _run_rows(report))
    if report.slices:
        _write_csv(folder / f"{report.name}_slices.csv", _slice_rows(report))
    with write_atomically(folder / f"{report.name}.json") as file:
        file.write(json.dumps(as_json(report), indent=1, ensure_ascii=False) + "\n")
    return folder


def markdown(report: Report) -> str:
    """The leaderboard, what it was made of, and the slices."""
    parts = [f"# {report.name}", f"`{report.command}`", *_about(report), leaderboard(report)]
    parts += [f"Under the table: {_explanation(report)}"]
    differences = _differences(report)
    if differences:
        parts.append(f"Settings of single rows:\n\n{differences}")
    if report.notes:
        parts.append("\n".join(f"- {note}" for note in report.notes))
    if report.slices:
        parts.append("## Slices\n\nMean ± standard deviation over seeds; in brackets the number of clips.")
        parts += [_slice_markdown(table) for table in report.slices]
    return "\n\n".join(parts) + "\n"


def _about(report: Report) -> Iterable[str]:
    counts = [
        f"{facts.name}: " + ", ".join(f"{facts.counts.get(split, 0)} {split}" for split in SPLITS)
        for facts in report.corpora
    ]
    yield f"Clips: {'; '.join(counts)}."
    notes = dict.fromkeys(facts.note for facts in report.corpora if facts.note)
    if notes:
        yield "\n".join(f"**{note}**" for note in notes)
    kind, count = report.clusters
    seeds = ", ".join(map(str, report.seeds))
    pooled = "; test predictions of all corpora are put together before a metric is computed"
    yield (
        f"Test split, mean ± standard deviation over seeds {seeds}{pooled if _is_pooled(report) else ''}. Ranked by "
        f"{_title(report.metrics[0])}; in brackets its 95 % interval by bootstrap over {count} clusters ({kind})."
    )
    features = "\n".join(f"- {key}: {text}" for key, texts in report.features.items() for text in texts)
    yield f"Features:\n\n{features}"
    settings = ", ".join(f"{key} {_plain(value)}" for key, value in report.settings.items() if key != "extractors")
    if settings:
        yield f"Settings that all rows share: {settings}."
    versions = ", ".join(f"{key} {'/'.join(report.versions[key])}" for key in SHOWN_VERSIONS if key in report.versions)
    yield f"Made on {'; '.join(report.machines)}; one thread a run. {versions}."


def _is_pooled(report: Report) -> bool:
    return any(len(row.runs) > len(row.seeds) for row in report.rows)


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _title(metric: str) -> str:
    return metric.replace(".", " ")


def leaderboard(report: Report) -> str:
    """The table alone, best first."""
    header, lines = cells(report)
    rule = ["---:", "---", *["---:"] * (len(header) - 2)]
    return "\n".join(map(_line, [header, rule, *lines]))


BRIEF_METRICS = 3


def cells(report: Report, *, brief: bool = False) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the leaderboard, as text; in brief the first metrics, and of all but one the mean alone."""
    metrics = report.metrics[:BRIEF_METRICS] if brief else report.metrics
    tested = any(value.test for row in report.rows for value in row.values.values())
    header = ["", "head", *map(_title, metrics), *(["p"] if tested else [])]
    header += ["train s"] if brief else ["parameters", "train s", "runs"]
    lines = []
    for rank, row in enumerate(report.rows, start=1):
        line = [str(rank), row.name]
        line += [_cell(row.values[metric], i == 0, brief) for i, metric in enumerate(metrics)]
        line += [_mark(row, report)] if tested else []
        cost = [f"{row.parameters:,}", f"{row.train_seconds:.1f}", str(len(row.runs))]
        lines.append([*line, *(cost[1:2] if brief else cost)])
    return header, lines


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float, digits: int = 3) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _cell(value: Value, ranks: bool, brief: bool) -> str:
    if brief and not ranks:
        return _number(value.mean)
    text = _number(value.mean) + ("" if math.isnan(value.std) else f" ± {_number(value.std)}")
    if ranks and not math.isnan(value.interval.low):
        text += f" [{_number(value.interval.low)}, {_number(value.interval.high)}]"
    return text


def _mark(row: Row, report: Report) -> str:
    """The corrected p of the ranking metric, which way it goes where it is significant, and against which row."""
    test = row.values[report.metrics[0]].test
    if test is None:
        return "reference" if row.name in _references(report) else "–"
    told = f"{_number(test.adjusted)}" if test.adjusted >= 0.001 else "< 0.001"
    if test.adjusted < SIGNIFICANT:
        told += " better" if test.better else " worse"
    if len(_references(report)) == 1:
        return told
    return f"{told} {'than' if test.adjusted < SIGNIFICANT else 'against'} {row.reference}"


def _references(report: Report) -> set[str]:
    """The rows that others are tested against."""
    tested = [row for row in report.rows if row.values[report.metrics[0]].test is not None]
    return {row.reference for row in tested if row.reference is not None}


def _explanation(report: Report) -> str:
    kind = report.clusters[0]
    told = [
        f"intervals are BCa (percentile where that is not defined), {report.resamples} resamples of whole {kind}s"
        if kind != "clip"
        else f"intervals are BCa (percentile where that is not defined), {report.resamples} resamples of clips"
    ]
    references = _references(report)
    if references:
        own = "the row that is named" if len(references) > 1 else f"`{next(iter(references))}`"
        told.append(
            f"p is of a paired permutation test of {_title(report.metrics[0])} against {own} (the two rows' "
            f"predictions change places on whole clusters, all seeds together), corrected by Holm over the rows; "
            f"“better” and “worse” stand where it is below {SIGNIFICANT}"
        )
    told.append("both speak of other clips for these trained models; the spread over seeds is the ±")
    return "; ".join(told) + "."


def _differences(report: Report) -> str:
    """Settings that single rows have for themselves, rows with the same ones together."""
    groups: dict[str, list[str]] = {}
    for row in report.rows:
        told = ", ".join(f"{key.removeprefix('train.')} {_plain(value)}" for key, value in sorted(row.options.items()))
        if told:
            groups.setdefault(told, []).append(row.name)
    return "\n".join(f"- {told}: {', '.join(names)}" for told, names in groups.items())


def _slice_markdown(table: SliceTable) -> str:
    title = f"### {table.kind}: {_title(table.metric)}"
    if not table.rows:
        return f"{title}\n\n{table.note}"
    lines = [_line(["head", *(f"{label} ({count})" for label, count in table.groups)])]
    lines.append(_line(["---", *["---:"] * len(table.groups)]))
    for row, cells in table.rows.items():
        told = [_number(c.mean) + ("" if math.isnan(c.std) else f" ± {_number(c.std)}") for c in cells]
        lines.append(_line([row, *told]))
    return "\n\n".join([title, *([table.note] if table.note else []), "\n".join(lines)])


def _leaderboard_rows(report: Report) -> list[dict[str, Any]]:
    rows = []
    for rank, row in enumerate(report.rows, start=1):
        line: dict[str, Any] = {
            "rank": rank,
            "row": row.name,
            "head": row.head,
            "modalities": "+".join(row.modalities),
            "seeds": " ".join("none" if seed is None else str(seed) for seed in row.seeds),
            "reference": row.reference or "",
        }
        for metric in report.metrics:
            line.update(_columns(metric, row.values[metric]))
        rows.append({**line, "parameters": row.parameters, "train_seconds": row.train_seconds, "epochs": row.epochs})
    return rows


def _columns(metric: str, value: Value) -> dict[str, Any]:
    test = value.test
    return {
        metric: value.mean,
        f"{metric} std": value.std,
        f"{metric} low": value.interval.low,
        f"{metric} high": value.interval.high,
        f"{metric} difference": "" if test is None else test.difference,
        f"{metric} p": "" if test is None else test.p,
        f"{metric} p Holm": "" if test is None else test.adjusted,
    }


def _run_rows(report: Report) -> list[dict[str, Any]]:
    """One line per training; where corpora are put together, metrics are of a seed and not of a training."""
    return [
        {
            "row": result.row,
            "head": result.head,
            "corpus": result.corpus,
            "modalities": "+".join(result.modalities),
            "seed": "" if result.seed is None else result.seed,
            "parameters": result.parameters,
            "epochs": result.epochs,
            "best_epoch": result.best_epoch,
            "train_seconds": result.train_seconds,
            **_own_metrics(report, result.row, result.seed),
        }
        for result in report.results
    ]


def _own_metrics(report: Report, name: str, seed: int | None) -> dict[str, float]:
    row = next(row for row in report.rows if row.name == name)
    place = row.seeds.index(seed)
    return {metric: value.runs[place] for metric, value in row.values.items() if value.runs}


def _slice_rows(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "slice": table.kind,
            "metric": table.metric,
            "row": row,
            "group": label,
            "clips": count,
            "mean": cell.mean,
            "std": cell.std,
        }
        for table in report.slices
        for row, cells in table.rows.items()
        for (label, count), cell in zip(table.groups, cells, strict=True)
    ] or [{"slice": "", "metric": "", "row": "", "group": "", "clips": "", "mean": "", "std": ""}]


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with write_atomically(path) as file:
        names = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(file, list(names), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _tidy(value) for key, value in row.items()} for row in rows)


def _tidy(value: Any) -> Any:
    """Six digits; nothing where there is no number."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value


def as_json(report: Report) -> dict[str, Any]:
    """Everything as plain JSON values; a number that is not defined is null."""
    data = asdict(report)
    data["corpora"] = [{key: own[key] for key in ("name", "note", "counts")} for own in data["corpora"]]
    data.pop("results")
    found: dict[str, Any] = _without_nan(data)
    return found


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
