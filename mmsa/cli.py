"""The command line: it parses, calls and prints."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mmsa.corpus_commands import app as corpus_app
from mmsa.errors import UsageError

if TYPE_CHECKING:
    from mmsa.runs import Run
    from mmsa.scoring import ModalityScore, Score, TaskScore
    from mmsa.training import Epoch

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Sentiment and emotion from video: text, speech and face, fused.",
)
app.add_typer(corpus_app, name="corpus")
out = Console()
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")]


def main() -> None:
    """Run the command line; exit code 0, 1 (some inputs failed) or 2 (usage)."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except UsageError as error:
        _fail(error)
    except KeyboardInterrupt:
        err.print("Interrupted. What was finished is kept.")
        sys.exit(130)
    except RuntimeError as error:
        from extractors import ToolError  # not above: `mmsa --help` need not wait for numpy

        if not isinstance(error, ToolError):
            raise
        _fail(error)


def _interrupt(number: int, frame: object) -> None:
    """A polite kill ends like Ctrl-C: the run is marked as killed, files are closed."""
    raise KeyboardInterrupt


def _fail(error: Exception) -> None:
    err.print(f"[bold red]Error:[/] {_plain(str(error))}", highlight=False, soft_wrap=True)
    sys.exit(2)


@app.command()
def train(
    fusion: Annotated[str | None, typer.Option(help="Fusion head, such as late, early or hierarchical.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Corpus; 'demo' renders itself on first use.")] = None,
    root: Annotated[Path | None, typer.Option(help="The corpus's folder; without it, $MMSA_DATA/<corpus>.")] = None,
    modalities: Annotated[str | None, typer.Option(help="Such as text,audio,vision. Default: all there are.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Such as 1,2,3: one run each.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with any of the settings.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, such as head.hidden_dim=32.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    as_json: Json = False,
) -> None:
    """Train a fusion model, test it, and keep both in MLflow."""
    from mmsa.config import make_config, parse_settings

    options: dict[str, Any] = {
        "fusion": fusion,
        "corpus": corpus,
        "root": root,
        "device": device,
        "modalities": _names(modalities),
    }
    given = {key: value for key, value in options.items() if value is not None}
    chosen = make_config(config, {**given, **parse_settings(set_ or [])})
    numbers = _seeds(seeds) if seeds is not None else (chosen.seed,)

    from mmsa.runs import train_seeds

    runs = []
    for run in train_seeds(chosen, numbers, on_epoch=_EpochLine()):
        runs.append(run)
        if as_json:
            typer.echo(json.dumps(_run_dict(run)))
        else:
            _print_run(run)
    if len(runs) > 1 and not as_json:
        _print_seeds(runs)
    if not as_json:
        for note in runs[0].notes:
            out.print(f"Note: {_plain(note)}", highlight=False)
        out.print("See it with [bold]mmsa ui[/]; score a video with [bold]mmsa score latest VIDEO[/].")


@app.command()
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
            out.print(f"Note: this model was trained on {scorer.bundle.corpus}. {_plain(scorer.bundle.note)}")
    if any(result.error for result in results):
        raise typer.Exit(1)


@app.command()
def heads(as_json: Json = False) -> None:
    """List the fusion heads."""
    from dataclasses import asdict

    from fusion import describe, head_classes

    rows = [describe(name) for name in head_classes()]
    if as_json:
        for row in rows:
            typer.echo(json.dumps(asdict(row)))
        return
    table = Table("head", "class", "family", "aligned", "parameters", "paper", title="Fusion heads")
    for row in rows:
        aligned = "yes" if row.needs_alignment else "no"
        table.add_row(row.name, row.class_name, row.family, aligned, f"{row.parameters:,}", row.paper)
    out.print(table)
    out.print("Parameters: text 768, audio 5, vision 20 features, one output, default sizes.")


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Open MLflow's UI on the store that training writes to."""
    from mmsa.tracking import STORE, is_default_store, tracking_uri

    uri = tracking_uri()
    if uri.startswith(("http://", "https://", "databricks")):
        out.print(f"The runs are on a tracking server: open {uri} in a browser.", soft_wrap=True)
        return
    if is_default_store() and not (STORE / "mlflow.db").is_file():
        raise UsageError(f"no run yet in {STORE.resolve()}: run `mmsa train` first, here, or set MLFLOW_TRACKING_URI")
    out.print(f"MLflow's UI on {uri}: http://{host}:{port} (Ctrl-C ends it)", highlight=False, soft_wrap=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", host, "--port", str(port)]
    os.execv(sys.executable, command)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what works on this machine, and what to do about the rest."""
    from mmsa.doctor import examine

    colours = {"ok": "green", "limited": "yellow", "broken": "red"}
    worst = False
    for finding in examine():
        worst |= finding.status == "broken"
        if as_json:
            typer.echo(json.dumps(finding.to_dict()))
            continue
        colour = colours[finding.status]
        out.print(
            f"[{colour}]{finding.status:8}[/] [bold]{finding.name:11}[/] {_plain(finding.found)}", highlight=False
        )
        if finding.advice and finding.status != "ok":
            out.print(f"{'':21}→ {_plain(finding.advice)}", highlight=False, soft_wrap=True)
    if worst:
        raise typer.Exit(1)


def _names(given: str | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(name.strip() for name in given.split(",") if name.strip())


def _seeds(given: str) -> tuple[int, ...]:
    try:
        seeds = tuple(int(part) for part in given.split(","))
    except ValueError:
        raise UsageError(f"--seeds takes whole numbers with commas between, such as 1,2,3, not {given!r}") from None
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UsageError(f"--seeds takes each number once, none below 0, not {given!r}")
    return seeds


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


class _EpochLine:
    """Prints one line per epoch, on standard error: loss, and the foremost metric of each task."""

    def __call__(self, epoch: Epoch) -> None:
        shown: dict[str, str] = {}
        for metric in HEADLINE:
            for key, value in epoch.valid_metrics.items():
                if key.split(".")[1] == metric:
                    shown.setdefault(key.split(".")[0], f"{key} {value:.3f}")
        metrics = "  ".join(shown.values())
        err.print(
            f"epoch {epoch.number:3}  train {epoch.train_loss:.4f}  valid {epoch.valid_loss:.4f}  {metrics}",
            highlight=False,
            soft_wrap=True,
        )


HEADLINE = ("mae", "corr", "acc_2_non0", "acc_2", "weighted_f1", "accuracy")
"""Metrics of the printed table; all others are in MLflow and in --json."""


def _headline(metrics: Iterable[str]) -> list[str]:
    return [key for key in metrics if key.split(".")[1] in HEADLINE]


def _print_run(run: Run) -> None:
    keys = _headline(run.test_metrics)
    title = f"{run.head}, seed {run.seed}: test split (kept epoch {run.best_epoch} of {run.epochs})"
    table = Table("modalities", *(key.replace(".", "\n") for key in keys), title=title)
    for subset, metrics in run.metrics.items():
        style = "bold" if metrics is run.test_metrics else None
        table.add_row(subset, *(f"{metrics[key]:.3f}" for key in keys), style=style)
    out.print(table)
    if run.weights:
        shares = ", ".join(f"{key} {value:.2f}" for key, value in run.weights.items())
        out.print(f"Mean weights on the test split: {shares}", highlight=False)
    out.print(f"Run {run.id} in experiment {run.experiment}, {run.train_seconds:.1f} s of training", highlight=False)


def _print_seeds(runs: Sequence[Run]) -> None:
    from statistics import mean, stdev

    keys = _headline(runs[0].test_metrics)
    table = Table("metric", "mean", "std", title=f"{runs[0].head} over seeds {', '.join(str(r.seed) for r in runs)}")
    for key in keys:
        values = [run.test_metrics[key] for run in runs]
        table.add_row(key, f"{mean(values):.3f}", f"{stdev(values):.3f}")
    out.print(table)


def _run_dict(run: Run) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(run)


def _print_scores(results: Sequence[Score]) -> None:
    """One block per file: the fused scores, then what each modality said, weighed and moved."""
    good = [result for result in results if result.error is None]
    if good:
        tasks = list(good[0].scores)
        table = Table("file", "from", *tasks, "weight", f"moved {tasks[0]}", "", title="Scores")
        for result in good:
            table.add_section()
            fused = (_shown(result.scores[task]) for task in tasks)
            name = _plain(Path(result.path).name)
            table.add_row(name, "all", *fused, "", "", _plain("; ".join(result.notes)), style="bold")
            for key, found in result.modalities.items():
                table.add_row("", key, *_modality_cells(found, tasks))
        out.print(table)
    for result in results:
        if result.error is not None:
            err.print(f"[red]failed[/] {_plain(result.path)}: {_plain(result.error)}", highlight=False, soft_wrap=True)


def _modality_cells(found: ModalityScore, tasks: Sequence[str]) -> list[str]:
    if not found.present:
        return [*("–" for _ in tasks), "–", "–", _plain(f"missing: {found.reason}")]
    weight = "–" if found.weight is None else f"{found.weight:.2f}"
    return [*(_shown(found.scores[task]) for task in tasks), weight, f"{found.contribution[tasks[0]]:+.2f}", ""]


def _shown(score: TaskScore) -> str:
    if score.label is None:
        return f"{score.value:+.2f}"
    return f"{score.label} {score.probabilities[score.label]:.0%}"
