"""The command `mmsa score`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from mmsa.commands.console import Json, err, names, out, plain
from mmsa.errors import UsageError

if TYPE_CHECKING:
    from mmsa.scoring import ModalityScore, Score, TaskScore, TaskSummary
    from mmsa.scoring.batch import Recipe
    from mmsa.scoring.ensemble import Ensemble
    from mmsa.scoring.exports import Places
    from mmsa.scoring.inputs import Input


def score(
    run: Annotated[
        str,
        typer.Argument(
            help="MLflow run id, registered model (NAME, NAME:2, NAME@alias), bundle folder, 'latest'; or "
            "'pretrained': published classifiers, without any training."
        ),
    ],
    videos: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders, a table (.csv: path,start,end,text,id), @list.txt, s3://…"),
    ] = None,
    window: Annotated[float | None, typer.Option(help="Score along time, in windows of so many seconds.")] = None,
    hop: Annotated[float | None, typer.Option(help="Seconds from window to window. Default: half a window.")] = None,
    segments: Annotated[
        str | None, typer.Option(help="Cut at 'subtitles', phrases of 'speech' or turns of 'speakers' instead.")
    ] = None,
    smooth: Annotated[
        float | None, typer.Option(help="Smoothing in seconds; 0 is none. Default: half a window's length.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="What is said; without it, a .srt, .vtt, .ass or .txt beside the file is read.")
    ] = None,
    transcribe: Annotated[
        str | None, typer.Option(help="A Whisper (hub id or folder) for files without a transcript.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="What is spoken: en, english, … Default: heard.")] = None,
    align: Annotated[
        str | None, typer.Option(help="A CTC model (hub id or folder) that gives times to transcripts without.")
    ] = None,
    save_transcripts: Annotated[
        Path | None, typer.Option(help="A folder for the transcripts that --transcribe and --align make, as WebVTT.")
    ] = None,
    glob: Annotated[str | None, typer.Option(help="Which files of folders, such as '*.mp4'.")] = None,
    list_: Annotated[list[Path] | None, typer.Option("--list", help="A file with a path a line.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder or .jsonl file to append to; what is there is not scored again.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="Also write csv, parquet, vtt (with commas) beside the JSON lines.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for an HTML page per input, with player and timeline, and an index.")
    ] = None,
    report_media: Annotated[
        str | None, typer.Option(help="How its pages play media: 'link', 'copy', 'embed'; 'auto' embeds small files.")
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(help="Folder for videos with face mesh, scores and timeline drawn into them.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Processes, each with a copy of the model; with --ray its workers. Default: 1 / all.", min=1),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where frames are decoded and encoders compute: auto, cpu or cuda.")
    ] = "auto",
    ray: Annotated[
        str | None, typer.Option(help="Score on a Ray cluster: local (this machine), auto, or HOST:PORT.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Score again what --output has an error for.")
    ] = False,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Also fetch from http and other addresses of the open network.")
    ] = False,
    max_fetch_mb: Annotated[float, typer.Option(help="Largest file to fetch from an address, in MB.")] = 4096,
    trust_extractors: Annotated[
        bool, typer.Option("--trust-extractors", help="Run extractors that are not mmsa's own, named by the model.")
    ] = False,
    modalities: Annotated[str | None, typer.Option(help="With 'pretrained': which of text,audio,vision.")] = None,
    models: Annotated[
        Path | None, typer.Option(help="With 'pretrained': folder of models, each in FOLDER/ORGANISATION/NAME.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="With 'pretrained': YAML file of other classifiers and what their labels mean.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="With 'pretrained': key=value, such as text.weight=2.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score media: sentiment and emotion, over time if asked, and what each modality said and how much it weighed."""
    if output is None and (format_ is not None or retry_failed):
        raise UsageError(f"{'--format' if format_ is not None else '--retry-failed'} needs --output")

    if ray is not None and device != "auto":
        raise UsageError(
            f"--device {device} is of this machine: with --ray every worker takes what it has, leave it out"
        )

    from mmsa.scoring.batch import Recipe, score_batch, scorer_of
    from mmsa.scoring.exports import Places
    from mmsa.scoring.inputs import gather
    from mmsa.scoring.products import Products
    from mmsa.scoring.timeline import Timeline
    from mmsa.words import WordOptions

    timeline = Timeline(window, hop, segments, smooth)
    inputs = gather(videos or [], lists=list_ or [], glob=glob, text=text, allow_remote=allow_remote)
    cut = next((item for item in inputs.items if item.span != (None, None)), None)
    if cut is not None and not timeline.whole:
        raise UsageError(f"the table cuts {cut.path} itself: leave --window and --segments out, or start and end")
    places = None if output is None else Places(output, names(format_) or ())
    words = WordOptions(transcribe, language, align, save_transcripts)
    bundle = _find_model(run, modalities, models, config, set_)
    recipe = Recipe(bundle, timeline, trust_extractors, max_fetch_mb, words, device)
    model = scorer_of(recipe).model
    for note in inputs.notes:
        err.print(plain(note), highlight=False)
    score_all = partial(score_batch, jobs=jobs, ray=ray)
    with Products(report, report_media, overlay, lambda told: err.print(plain(told), highlight=False)) as products:
        keep = products.add if products.wanted and places is None else None
        results = _run(inputs.items, recipe, places, score_all, retry_failed, as_json, keep)
        if not as_json:
            _print_results(results)
            if model["note"]:
                trained = f"this model was trained on {model['corpus']}. " if model["corpus"] else ""
                out.print(f"Note: {trained}{plain(model['note'])}")
        whole = products.make(None if places is None else places.rows, recipe, jobs or 1)
    if not whole or any(result.error for result in results):
        raise typer.Exit(1)


def _find_model(
    run: str, modalities: str | None, models: Path | None, config: Path | None, settings: Sequence[str] | None
) -> Path | Ensemble:
    """A bundle's folder, or the published classifiers that are asked for."""
    from mmsa.scoring.scorer import PRETRAINED

    if run == PRETRAINED:
        from mmsa.config import parse_settings
        from mmsa.scoring.ensemble import read_ensemble

        return read_ensemble(config, parse_settings(settings or []), modalities=names(modalities), models=models)
    given = {"--modalities": modalities, "--models": models, "--config": config, "--set": settings}
    for option, value in given.items():
        if value:
            raise UsageError(
                f"{option} chooses among published classifiers: it goes with `mmsa score {PRETRAINED}`; a trained "
                "model is used as it was trained"
            )
    from mmsa.tracking import find_bundle

    return find_bundle(run).resolve()


def _run(
    items: Sequence[Input],
    recipe: Recipe,
    places: Places | None,
    score_all: Callable[..., Iterator[tuple[Input, Score]]],
    retry_failed: bool,
    as_json: bool,
    keep: Callable[[Score], None] | None = None,
) -> list[Score]:
    """Score all, show what is new as JSON where asked, and write; the results in the order of the inputs."""
    from mmsa.scoring.batch import open_items, scorer_of
    from mmsa.scoring.meter import Meter
    from mmsa.scoring.store import ResultFile, read_scores

    found: dict[str, Score] = {}
    wanted = {item.identity for item in items}

    def take(identity: str, result: Score) -> None:
        if as_json:
            typer.echo(json.dumps(result.to_dict()))
        if keep is not None:
            keep(result)
        # Of a timeline only the summary is shown: a thousand windows a file need not be kept.
        found[identity] = result if len(result.windows) == 1 else replace(result, windows=())

    with ExitStack() as stack:
        file = None
        if places is not None:
            model, options = scorer_of(recipe).model, recipe.options
            file = stack.enter_context(ResultFile(places.rows, model, options))
        todo = open_items(items, recipe, file, retry_failed=retry_failed)
        if len(todo) < len(items):
            err.print(f"{len(items) - len(todo)} of {len(items)} are in {places and places.rows} already")
        meter = stack.enter_context(Meter([item for item, _ in todo]))
        for item, result in score_all(todo, recipe, file=file, progress=meter.within):
            meter.finished(item)
            take(item.identity, result)
        if places is not None:
            from mmsa.scoring.inputs import Input

            rows = places.rows
            for result in read_scores(rows):
                identity = Input(result.path, result.start_seconds, result.end_seconds, id=result.id).identity
                if identity in wanted and identity not in found:
                    take(identity, result)
            made = places.derive(lambda: read_scores(rows))
            err.print(plain(f"written: {', '.join(str(path) for path in (rows, *made))}"), highlight=False)
    return [found[item.identity] for item in items if item.identity in found]


def _print_results(results: Sequence[Score]) -> None:
    """Clips: one block per file, the fused scores, then what each modality said. Timelines: a line per task."""
    good = [result for result in results if result.error is None]
    clips = [result for result in good if result.windows]
    if clips:
        _print_clips(clips)
    timelines = [result for result in good if not result.windows]
    if timelines:
        _print_timelines(timelines)
    for result in results:
        if result.error is not None:
            err.print(f"[red]failed[/] {plain(result.path)}: {plain(result.error)}", highlight=False, soft_wrap=True)


def _print_clips(results: Sequence[Score]) -> None:
    tasks = list(results[0].scores)
    table = Table("file", "from", *tasks, "weight", f"moved {tasks[0]}", "", title="Scores")
    for result in results:
        table.add_section()
        fused = (_shown(result.scores[task]) for task in tasks)
        table.add_row(_name(result), "all", *fused, "", "", plain("; ".join(result.notes)), style="bold")
        for key, found in result.modalities.items():
            table.add_row("", key, *_modality_cells(found, tasks))
    out.print(table)


def _print_timelines(results: Sequence[Score]) -> None:
    table = Table("file", "windows", "task", "over the whole file", "peaks", "there for", title="Timelines")
    for result in results:
        assert result.summary is not None
        table.add_section()
        there = ", ".join(f"{key} {share:.0%}" for key, share in result.summary.coverage.items())
        first = [_name(result), str(result.summary.windows)]
        for name, task in result.summary.tasks.items():
            table.add_row(*first, name, *_task_cells(task), there)
            first, there = ["", ""], ""
        for note in result.notes:
            table.add_row("", "", "", plain(note), "", "")
    out.print(table)


def _task_cells(task: TaskSummary) -> tuple[str, str]:
    if task.mean is None:
        order = sorted(task.shares, key=lambda name: -task.shares[name])[:3]
        spent = ", ".join(f"{name} {task.shares[name]:.0%}" for name in order)
        return spent, ", ".join(f"{name} {_clock(task.peaks[name].seconds)}" for name in order)
    low, high = task.most_negative, task.most_positive
    assert low is not None
    assert high is not None
    peaks = f"{low.value:+.2f} at {_clock(low.seconds)}, {high.value:+.2f} at {_clock(high.seconds)}"
    return f"{task.mean:+.2f} ± {task.std:.2f}", peaks


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
    )


def _name(result: Score) -> str:
    name = result.id or Path(result.path).name
    if result.start_seconds is None and result.end_seconds is None:
        return plain(name)
    end = "" if result.end_seconds is None else f"{result.end_seconds:g}"
    return plain(f"{name} ({result.start_seconds or 0:g}–{end} s)")


def _modality_cells(found: ModalityScore, tasks: Sequence[str]) -> list[str]:
    if not found.present:
        return [*("–" for _ in tasks), "–", "–", plain(f"missing: {found.reason}")]
    weight = "–" if found.weight is None else f"{found.weight:.2f}"
    return [*(_shown(found.scores[task]) for task in tasks), weight, f"{found.contribution[tasks[0]]:+.2f}", ""]


def _shown(score: TaskScore) -> str:
    if score.labels is not None:
        return ", ".join(f"{name} {score.probabilities[name]:.0%}" for name in score.labels) or "none"
    if score.label is None:
        span = "" if score.interval is None else f" ({score.interval[0]:+.2f} to {score.interval[1]:+.2f})"
        return f"{score.value:+.2f}{span}"
    return f"{score.label} {score.probabilities[score.label]:.0%}"
