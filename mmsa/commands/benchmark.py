"""The command `mmsa benchmark`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from mmsa.commands.console import Json, err, names, out, plain, seed_numbers

if TYPE_CHECKING:
    from mmsa.benchmarking.report import Report
    from mmsa.benchmarking.store import Result
    from mmsa.benchmarking.work import Item
    from mmsa.recipe import Recipe


def benchmark(
    recipe: Annotated[Path, typer.Argument(help="YAML file, such as experiments/mosi_text.yaml.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder for predictions and tables; default benchmarks-out/RECIPE.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Trainings at a time; default one per core.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Such as 1,2 in place of the recipe's.")] = None,
    heads: Annotated[str | None, typer.Option(help="Only these rows of the recipe, such as late,svm.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value of a training setting.")] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Compute the tables again from kept predictions; trains nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Heads × seeds on one corpus: a leaderboard with intervals and tests. Continues where it was stopped."""
    from mmsa.benchmarking import runner

    chosen = _choose(recipe, seeds, heads, set_ or [])
    command = _command_line()
    if report_only:
        outcome = runner.report_only(chosen, output=output, command=command)
    else:
        outcome = runner.benchmark(chosen, output=output, jobs=jobs, command=command, on_run=_tell)
    if as_json:
        from mmsa.benchmarking.publish import as_json as report_json

        typer.echo(json.dumps(report_json(outcome.report), ensure_ascii=False))
    else:
        _print(outcome.report)
        told = f"{outcome.trained} trained, {outcome.kept} were there already"
        out.print(plain(f"{told}. Tables: {outcome.tables}"), highlight=False, soft_wrap=True)
    for name, reason in outcome.failed.items():
        err.print(f"[bold red]Failed:[/] {plain(name)}: {plain(reason)}", highlight=False, soft_wrap=True)
    if outcome.failed:
        raise typer.Exit(1)


def _choose(file: Path, seeds: str | None, heads: str | None, settings: list[str]) -> Recipe:
    """The recipe with what the command line changes in it."""
    from mmsa.config import parse_settings
    from mmsa.errors import unknown
    from mmsa.recipe import load_recipe, make_recipe

    chosen = load_recipe(file)
    changes: dict[str, Any] = {}
    if seeds is not None:
        changes["seeds"] = seed_numbers(seeds)
    wanted = names(heads)
    if wanted is not None:
        rows = {entry.name: entry for entry in chosen.heads}
        for name in wanted:
            if name not in rows:
                raise unknown("row", name, rows)
        kept = [rows[name] for name in wanted]
        changes["heads"] = [
            {**entry.model_dump(), "reference": entry.reference if entry.reference in wanted else None}
            for entry in kept
        ]
        changes["reference"] = chosen.reference if chosen.reference in wanted else None
    if settings:
        changes["train"] = {**chosen.train, **parse_settings(settings)}
    return make_recipe({**chosen.model_dump(), **changes}, where=f" in {file}") if changes else chosen


def _command_line() -> str:
    """What was typed, without the program's folder."""
    return shlex.join([Path(sys.argv[0]).name.removesuffix(".py"), *sys.argv[1:]])


def _tell(item: Item, result: Result | Exception, number: int, total: int) -> None:
    """One line per training, on standard error."""
    if isinstance(result, Exception):
        told = f"[bold red]failed[/]: {plain(f'{type(result).__name__}: {result}')}"
    else:
        told = f"{result.train_seconds:.1f} s, kept epoch {result.best_epoch} of {result.epochs}"
        told = f"{result.train_seconds:.1f} s" if result.seed is None else told
    err.print(f"[{number}/{total}] {plain(repr(item))}: {told}", highlight=False, soft_wrap=True)


def _print(report: Report) -> None:
    """The leaderboard: the ranking metric in full, the means of the next ones; the files have all of them."""
    from mmsa.benchmarking.publish import cells

    header, lines = cells(report, brief=True)
    table = Table(title=f"{report.name}: test split, {len(report.seeds)} seeds")
    for name in header:
        table.add_column(
            name.replace(" ", "\n", 1), no_wrap=name == "head", justify="left" if name == "head" else "right"
        )
    for line in lines:
        table.add_row(*(plain(cell).replace(" [", "\n[").replace(" \\[", "\n\\[") for cell in line))
    out.print(table)
    for note in report.notes:
        out.print(f"Note: {plain(note)}", highlight=False, soft_wrap=True)
