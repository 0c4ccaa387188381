"""The command `mmsa live`."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from mmsa.commands.console import Json, err, out, plain
from mmsa.errors import UsageError

if TYPE_CHECKING:
    from extractors import LiveSource
    from mmsa.scoring import TaskScore
    from mmsa.scoring.live import LiveScore, LiveScoring


def live(
    run: Annotated[
        str, typer.Argument(help="MLflow run id, registered model (NAME, NAME:2, NAME@alias), bundle folder, 'latest'.")
    ],
    source: Annotated[
        str, typer.Argument(help="A camera (0, /dev/video0), a stream (rtsp://…, http://…), or a file with --realtime.")
    ] = "0",
    window: Annotated[
        float | None, typer.Option(help="Seconds in a window. Default: the median length of the training clips.")
    ] = None,
    hop: Annotated[float | None, typer.Option(help="Seconds from window to window. Default: half a window.")] = None,
    max_latency: Annotated[
        float, typer.Option(help="Seconds that a window may be late before a newer one is preferred.")
    ] = 2.0,
    seconds: Annotated[float | None, typer.Option(help="Stop after so many seconds.")] = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="Play a file at its own speed.")] = False,
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="Read a stream from an address.")] = False,
    reconnect: Annotated[int, typer.Option(help="Tries in a row to reach a broken camera or stream again.", min=0)] = 5,
    output: Annotated[Path | None, typer.Option(help="A .jsonl file to append every row to.")] = None,
    trust_extractors: Annotated[
        bool, typer.Option("--trust-extractors", help="Run extractors that are not mmsa's own, named by the model.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Score what happens now: a line per window, late by a bounded time; Ctrl-C ends it."""
    chosen = _source(source, realtime, allow_remote)

    from mmsa.scoring.live import LiveScoring
    from mmsa.scoring.scorer import load_scorer

    scorer = load_scorer(run, trust_extractors=trust_extractors)
    with ExitStack() as stack:
        file = None if output is None else stack.enter_context(_appending(output))
        scoring = LiveScoring(
            scorer,
            chosen,
            window_seconds=window,
            hop_seconds=hop,
            max_latency_seconds=max_latency,
            seconds=seconds,
            tries=reconnect,
        )
        stack.callback(scoring.close)
        _write(scoring.begin_row(), file, as_json)
        if not as_json:
            _introduce(scoring, scorer.model["note"])
        reason, broke = _follow(scoring, file, as_json)
        _write(scoring.end_row(reason), file, as_json)
    if not as_json:
        _conclude(scoring, reason)
    if broke:
        raise typer.Exit(1)


def _source(given: str, realtime: bool, allow_remote: bool) -> LiveSource:
    from extractors import LiveSource, MediaError

    try:
        chosen = LiveSource.of(given)
    except MediaError as error:
        raise UsageError(str(error)) from None
    if chosen.kind == "stream" and not allow_remote:
        raise UsageError(f"{chosen.label}: reading a stream reaches into the network, which needs --allow-remote")
    if chosen.kind == "file" and not realtime:
        raise UsageError(
            f"{given}: is neither a camera nor a stream: `mmsa score` scores a file at once, --realtime plays "
            "it at its own speed"
        )
    if chosen.kind != "file" and realtime:
        raise UsageError(f"--realtime plays a file at its own speed, but {chosen.label} is a {chosen.kind}")
    return chosen


def _appending(path: Path) -> TextIO:
    if path.suffix != ".jsonl":
        raise UsageError(f"--output takes a .jsonl file, not {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--output {path} cannot be written: {error.strerror}") from None


def _follow(scoring: LiveScoring, file: TextIO | None, as_json: bool) -> tuple[str, bool]:
    """Show every window; returns why it ended, and whether that is a failure."""
    from extractors import MediaError

    try:
        for score in scoring:
            _write(score.to_dict(), file, as_json)
            if not as_json:
                out.print(_line(score), highlight=False, soft_wrap=True)
    except KeyboardInterrupt:
        return "interrupted", False
    except MediaError as error:
        err.print(f"[red]failed[/] {plain(str(error))}", highlight=False, soft_wrap=True)
        return str(error), True
    return "the source ended, or --seconds were over", False


def _write(row: dict[str, Any], file: TextIO | None, as_json: bool) -> None:
    line = json.dumps(row)
    if as_json:
        typer.echo(line)
    if file is not None:
        file.write(line + "\n")
        file.flush()  # whoever follows the file sees each window at once


def _introduce(scoring: LiveScoring, note: str) -> None:
    timeline = scoring.timeline
    out.print(
        f"Watching {plain(scoring.source.label)}: windows of {timeline.window_seconds:g} s every "
        f"{timeline.hop_seconds:g} s. Ctrl-C ends.",
        highlight=False,
        soft_wrap=True,
    )
    if note:
        out.print(f"Note: {plain(note)}", soft_wrap=True)


def _line(score: LiveScore) -> str:
    window = score.window
    parts = [f"{_clock(window.start_seconds)}–{_clock(window.end_seconds)}"]
    parts += [f"{plain(name)} {_shown(task)}" for name, task in window.scores.items()]
    if not window.scores:
        parts.append("nothing to score")
    parts += [f"[dim]{plain(key)}: {plain(reason)}[/]" for key, reason in window.missing.items()]
    parts.append(f"{score.latency_seconds:.2f} s late")
    if score.counts.dropped_windows or score.counts.dropped_frames:
        parts.append(
            f"[yellow]dropped: {score.counts.dropped_windows} windows, {score.counts.dropped_frames} frames[/]"
        )
    return "  ".join(parts)


def _shown(task: TaskScore) -> str:
    if task.labels is not None:
        return plain(", ".join(f"{name} {task.probabilities[name]:.0%}" for name in task.labels) or "none")
    return f"{task.value:+.2f}" if task.label is None else plain(f"{task.label} {task.probabilities[task.label]:.0%}")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{seconds % 60:04.1f}"


def _conclude(scoring: LiveScoring, reason: str) -> None:
    summary, counts = scoring.summary, scoring.counts
    told = [
        f"{summary.windows} windows, late by {summary.mean_latency_seconds:.2f} s on average and by "
        f"{summary.most_latency_seconds:.2f} s at most",
        f"dropped: {counts.dropped_windows} windows, {counts.dropped_frames} frames; skipped: "
        f"{counts.skipped_seconds:.1f} s; undecodable packets: {counts.decode_errors}; reached again: "
        f"{counts.reconnects}",
    ]
    if not summary.windows:
        told.insert(0, f"it ended before a window of {scoring.timeline.window_seconds:g} s was complete")
    for name, task in summary.tasks.items():
        if "mean" in task:
            told.append(f"{name}: {task['mean']:+.2f} on average")
        else:
            order = sorted(task["shares"], key=lambda label: -task["shares"][label])
            told.append(f"{name}: " + ", ".join(f"{label} {task['shares'][label]:.0%}" for label in order))
    out.print(f"Ended ({plain(reason)}).", highlight=False, soft_wrap=True)
    for line in told:
        out.print(f"  {plain(line)}", highlight=False, soft_wrap=True)
