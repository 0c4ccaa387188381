"""The command `mmsa train`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from mmsa.commands.console import Json, err, names, out, plain, quieten, seed_numbers
from mmsa.distributed import join

if TYPE_CHECKING:
    from mmsa.runs import Run
    from mmsa.training import Epoch


def train(
    fusion: Annotated[str | None, typer.Option(help="Fusion head, such as late, early or hierarchical.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Corpus; 'demo' renders itself on first use.")] = None,
    root: Annotated[Path | None, typer.Option(help="The corpus's folder; without it, $MMSA_DATA/<corpus>.")] = None,
    modalities: Annotated[str | None, typer.Option(help="Such as text,audio,vision. Default: all there are.")] = None,
    faces: Annotated[
        str | None, typer.Option(help="Of several faces: first (the default), largest, speaking or all.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Such as 1,2,3: one run each.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with any of the settings.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, such as head.hidden_dim=32.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Seeds trained side by side, each in a process with one thread.")
    ] = 1,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run that was killed: its id, or latest.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a fusion model, test it, and keep both in MLflow."""
    quieten()
    join()
    if resume is not None:
        others = (fusion, corpus, root, modalities, faces, seeds, config, set_, device, jobs if jobs > 1 else None)
        _resume(resume, as_json=as_json, alone=all(value is None for value in others))
        return
    from mmsa.config import make_config, parse_settings
    from mmsa.faces import KEY, check_faces

    options: dict[str, Any] = {
        "fusion": fusion,
        "corpus": corpus,
        "root": root,
        "device": device,
        "modalities": names(modalities),
        KEY: faces,
    }
    given = {key: value for key, value in options.items() if value is not None}
    chosen = make_config(config, {**given, **parse_settings(set_ or [])})
    if faces is not None:
        check_faces(faces, chosen)
    numbers = seed_numbers(seeds) if seeds is not None else (chosen.seed,)

    from mmsa.runs import train_seeds

    runs = []
    for run in train_seeds(chosen, numbers, processes=jobs, on_epoch=_EpochLine(), on_start=_say_start):
        runs.append(run)
        _print_result(run, as_json=as_json)
    if len(runs) > 1 and not as_json:
        _print_seeds(runs)
    if not as_json:
        _print_end(runs[0])


def _resume(run: str, *, as_json: bool, alone: bool) -> None:
    from mmsa.errors import UsageError
    from mmsa.resume import FinishedError
    from mmsa.runs import resume

    if not alone:
        raise UsageError(
            "--resume goes on with a run in its own settings and seed: give no other option but --json. With other "
            "settings, start a new run"
        )
    try:
        result = resume(run, on_epoch=_EpochLine(), on_start=_say_start)
    except FinishedError as error:
        err.print(plain(str(error)), highlight=False, soft_wrap=True)
        return
    _print_result(result, as_json=as_json)
    if not as_json:
        _print_end(result)


def _say_start(run_id: str, epochs: int) -> None:
    """On standard error: which run it is, so that it can be gone on with."""
    if epochs:
        said = f"Run {run_id} goes on after epoch {epochs}."
    else:
        said = f"Run {run_id}. If it is stopped: mmsa train --resume {run_id}"
    err.print(said, highlight=False, soft_wrap=True)


def _print_result(run: Run, *, as_json: bool) -> None:
    if as_json:
        if not out.quiet:
            typer.echo(json.dumps(_run_dict(run)))
        return
    _print_run(run)
    for warning in run.warnings:
        out.print(f"[yellow]Warning:[/] {plain(warning)}", highlight=False)


def _print_end(run: Run) -> None:
    for note in run.notes:
        if note not in run.warnings:
            out.print(f"Note: {plain(note)}", highlight=False)
    out.print("See it with [bold]mmsa ui[/]; score a video with [bold]mmsa score latest VIDEO[/].")


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


HEADLINE = ("mae", "corr", "acc_2_non0", "acc_2", "weighted_f1", "accuracy", "wa")
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
