"""The command `mmsa sweep`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from mmsa.commands.console import Json, err, names, out, plain

if TYPE_CHECKING:
    from mmsa.study import Plan, Trial
    from mmsa.sweep import SweepResult


def sweep(
    recipe: Annotated[Path, typer.Argument(help="YAML file with heads and what to search, as for benchmark.")],
    trials: Annotated[int | None, typer.Option(help="Per head; default the recipe's.", min=1)] = None,
    jobs: Annotated[int, typer.Option(help="Processes that try settings at the same time.", min=1)] = 1,
    heads: Annotated[str | None, typer.Option(help="Only these rows of the recipe, such as late,mult.")] = None,
    storage: Annotated[
        str | None, typer.Option(help="Database URL of the studies; default an SQLite file in mlruns/.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sampler.", min=0)] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the found settings; default mlruns/sweeps/RECIPE.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value of a training setting.")] = None,
    as_json: Json = False,
) -> None:
    """Search a head's settings on the validation split. Run it again to go on, or twice at once to share the work."""
    from mmsa.config import parse_settings
    from mmsa.recipe import load_recipe, make_recipe
    from mmsa.sweep import sweep as sweep_recipe

    chosen = load_recipe(recipe)
    if set_:
        train = {**chosen.train, **parse_settings(set_)}
        chosen = make_recipe({**chosen.model_dump(), "train": train}, where=f" in {recipe}")
    results = sweep_recipe(
        chosen,
        rows=names(heads),
        trials=trials,
        jobs=jobs,
        storage=storage,
        seed=seed,
        output=output,
        on_trial=_TrialLine(),
    )
    for result in results:
        if as_json:
            typer.echo(json.dumps(result.to_dict()))
        else:
            _print(result)
    if not as_json:
        last = results[-1]
        out.print(plain(f"Train with them: mmsa train --config {last.config}"), highlight=False, soft_wrap=True)
        out.print(plain(f"Benchmark them: mmsa benchmark {last.recipe}"), highlight=False, soft_wrap=True)


class _TrialLine:
    """Prints one line per trial, on standard error."""

    def __call__(self, plan: Plan, trial: Trial) -> None:
        told = trial.reason or "stopped early"
        if trial.value is not None:
            told = f"{plan.search.metric} {trial.value:.4f}"
        line = f"{plan.row}, trial {trial.number}: {told}  ({_said(trial.settings)})"
        err.print(plain(line), highlight=False, soft_wrap=True)


def _said(settings: dict[str, Any] | Any) -> str:
    return ", ".join(f"{key} {_short(value)}" for key, value in settings.items())


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _print(result: SweepResult) -> None:
    stopped = sum(trial.value is None for trial in result.trials)
    title = f"{result.row} on {result.corpus}: validation split"
    table = Table("", "best", *(["in the recipe"] if result.start else []), title=plain(title))
    first = "not among the trials" if result.first is None else f"{result.first:.4f}"
    table.add_row(result.measure, f"{result.best.value:.4f}", *([first] if result.start else []), style="bold")
    for key, value in result.best.settings.items():
        own = [_short(result.start[key]) if key in result.start else "–"] if result.start else []
        table.add_row(key, _short(value), *own)
    out.print(table)
    for note in result.notes:
        out.print(f"Note: {plain(note)}", highlight=False, soft_wrap=True)
    out.print(f"{len(result.trials)} trials, {stopped} of them stopped early", highlight=False)
    out.print(plain(f"Study {result.study}, MLflow run {result.parent}"), highlight=False, soft_wrap=True)
