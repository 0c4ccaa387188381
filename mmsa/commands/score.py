"""The command `mmsa score`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from mmsa.commands.console import Json, err, out, plain
from mmsa.errors import UsageError

if TYPE_CHECKING:
    from mmsa.scoring import ModalityScore, Score, TaskScore


def score(
    run: Annotated[str, typer.Argument(help="MLflow run id, bundle folder, or 'latest'.")],
    videos: Annotated[list[Path], typer.Argument(help="Media files; anything FFmpeg reads.")],
    text: Annotated[
        str | None, typer.Option(help="What is said; without it, a .srt, .vtt or .txt beside the file is read.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Also write JSON lines to this file.")] = None,
    trust_extractors: Annotated[
        bool, typer.Option("--trust-extractors", help="Run extractors that are not mmsa's own, named by the model.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Score media files: sentiment, emotion, what each modality said and how much it weighed."""
    if text is not None and len(videos) > 1:
        raise UsageError(f"--text is the transcript of one file, but {len(videos)} were given: score them one by one")
    if output is not None and not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent} to write {output.name} to")

    from mmsa.progress import track
    from mmsa.scoring import load_scorer

    scorer = load_scorer(run, trust_extractors=trust_extractors)
    results = []
    sink = output.open("w", encoding="utf-8") if output is not None else None
    try:
        for result in track(scorer.score_many(videos, text=text), "Scoring", len(videos)):
            results.append(result)
            line = json.dumps(result.to_dict())
            if sink is not None:
                sink.write(line + "\n")
                sink.flush()
            if as_json:
                typer.echo(line)
    finally:
        if sink is not None:
            sink.close()
    if not as_json:
        _print_scores(results)
        if scorer.bundle.note:
            out.print(f"Note: this model was trained on {scorer.bundle.corpus}. {plain(scorer.bundle.note)}")
    if any(result.error for result in results):
        raise typer.Exit(1)


def _print_scores(results: Sequence[Score]) -> None:
    """One block per file: the fused scores, then what each modality said, weighed and moved."""
    good = [result for result in results if result.error is None]
    if good:
        tasks = list(good[0].scores)
        table = Table("file", "from", *tasks, "weight", f"moved {tasks[0]}", "", title="Scores")
        for result in good:
            table.add_section()
            fused = (_shown(result.scores[task]) for task in tasks)
            name = plain(Path(result.path).name)
            table.add_row(name, "all", *fused, "", "", plain("; ".join(result.notes)), style="bold")
            for key, found in result.modalities.items():
                table.add_row("", key, *_modality_cells(found, tasks))
        out.print(table)
    for result in results:
        if result.error is not None:
            err.print(f"[red]failed[/] {plain(result.path)}: {plain(result.error)}", highlight=False, soft_wrap=True)


def _modality_cells(found: ModalityScore, tasks: Sequence[str]) -> list[str]:
    if not found.present:
        return [*("–" for _ in tasks), "–", "–", plain(f"missing: {found.reason}")]
    weight = "–" if found.weight is None else f"{found.weight:.2f}"
    return [*(_shown(found.scores[task]) for task in tasks), weight, f"{found.contribution[tasks[0]]:+.2f}", ""]


def _shown(score: TaskScore) -> str:
    if score.label is None:
        return f"{score.value:+.2f}"
    return f"{score.label} {score.probabilities[score.label]:.0%}"
