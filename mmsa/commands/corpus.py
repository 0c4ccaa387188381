"""The commands `mmsa corpus list`, `check` and `import`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from mmsa.commands.console import Json, out
from mmsa.errors import UsageError

if TYPE_CHECKING:
    from mmsa.corpora.check import Report
    from mmsa.corpora.imported import Imported

app = typer.Typer(no_args_is_help=True, help="Corpora: which there are, what one holds, feature files as a corpus.")


SHOWN = 10


@app.command("list")
def list_corpora(as_json: Json = False) -> None:
    """List the registered corpora and where they are looked for."""
    from mmsa.corpora import CORPORA, RENDERED, find_root

    table = Table("corpus", "folder", title="Corpora")
    for name in CORPORA:
        try:
            folder = "" if name in RENDERED else str(find_root(name, None))
        except UsageError:
            folder = None
        if as_json:
            typer.echo(json.dumps({"name": name, "rendered": name in RENDERED, "folder": folder}))
        shown = "renders itself" if name in RENDERED else "not found: give --root FOLDER, or set MMSA_DATA"
        table.add_row(name, escape(folder or shown))
    if not as_json:
        out.print(table)
        out.print("Your own: --corpus TABLE.csv, or a folder that `mmsa corpus import` made.", highlight=False)


@app.command()
def check(
    corpus: Annotated[str, typer.Argument(help="A name, a table, or a folder with a corpus.")],
    root: Annotated[Path | None, typer.Option(help="The folder of a corpus given by name.")] = None,
    as_json: Json = False,
) -> None:
    """Say what a corpus holds, what is missing and what is inconsistent; exit code 1 where there are problems."""
    from mmsa.corpora.check import check as check_corpus

    report = check_corpus(corpus, root)
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
        for finding in report.findings:
            typer.echo(json.dumps(finding.to_dict()))
    else:
        _print_report(report)
    if report.problems:
        raise typer.Exit(1)


@app.command("import")
def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="A feature pickle of MMSA, MMSA-FET or MultiBench; a folder of .csd files or of UR-FUNNY's pickles."
        ),
    ],
    name: Annotated[str, typer.Option(help="Of the corpus that is made.")],
    output: Annotated[Path | None, typer.Option(help="Folder to make; without it, ./NAME.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="Of a pickle: mosi, sims, simsv2, or a range such as 0,5. Default: by them.")
    ] = None,
    padding: Annotated[str | None, typer.Option(help="Of a pickle: left or right. Default: found out.")] = None,
    folds: Annotated[
        Path | None,
        typer.Option(help="Of .csd files: which video is in which split. Default: looked for beside them."),
    ] = None,
    use: Annotated[
        list[str] | None,
        typer.Option(help="Of .csd files: MODALITY=SEQUENCE, where several would fit; may be given several times."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a corpus of ready-made features, to train on without any extractor; nothing in the files is run."""
    from mmsa.corpora.imports import import_corpus

    made = import_corpus(
        source,
        output or Path(name),
        name=name,
        labels=_range(labels),
        padding=_side(padding),
        folds=folds,
        use=_sequences(use or []),
    )
    if as_json:
        typer.echo(json.dumps(made.to_dict()))
    else:
        _print_import(made)


def _sequences(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for text, (modality, sign, sequence) in zip(given, pairs, strict=True):
        if not (modality and sign and sequence):
            raise UsageError(f"--use takes MODALITY=SEQUENCE, such as vision=FACET_4.2, not {text!r}")
    return {modality: sequence for modality, _, sequence in pairs}


def _range(given: str | None) -> str | tuple[float, float] | None:
    if given is None or "," not in given:
        return given
    try:
        low, high = (float(part) for part in given.split(","))
    except ValueError:
        raise UsageError(f"--labels takes mosi, sims, simsv2 or two numbers such as 0,5, not {given!r}") from None
    return low, high


def _side(given: str | None) -> Literal["left", "right"] | None:
    match given:
        case None | "left" | "right":
            return given
    raise UsageError(f"--padding takes left or right, not {given!r}")


def _print_report(report: Report) -> None:
    table = Table("", "", title=f"The corpus {report.name}", show_header=False)
    total = sum(report.clips.values())
    table.add_row("clips", ", ".join(f"{split} {count}" for split, count in report.clips.items()))
    table.add_row("media files", f"{report.media} of {total} clips")
    table.add_row("transcripts", f"{report.transcripts} of {total} clips")
    if report.speakers:
        table.add_row("speakers", str(report.speakers))
    if report.features:
        table.add_row("features", ", ".join(report.features))
    for task, labels in report.labels.items():
        table.add_row(task, escape(", ".join(f"{key} {_shown(value)}" for key, value in labels.items())))
    out.print(table)
    for severity, colour in (("problem", "red"), ("note", "yellow")):
        by_kind: dict[str, list[str]] = {}
        for finding in report.findings:
            if finding.severity == severity:
                where = f"{finding.clip}: " if finding.clip else ""
                by_kind.setdefault(finding.kind, []).append(where + finding.message)
        for kind, lines in by_kind.items():
            out.print(f"[bold {colour}]{severity}[/], {escape(kind)} ({len(lines)}):", highlight=False)
            for line in lines[:SHOWN]:
                out.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
            if len(lines) > SHOWN:
                out.print(f"  and {len(lines) - SHOWN} more: --json lists them all")
    if not report.problems:
        out.print("[green]No problems found.[/]")


def _shown(value: float) -> str:
    return f"{value:g}" if value == int(value) else f"{value:.2f}"


def _print_import(made: Imported) -> None:
    counts = ", ".join(f"{split} {count}" for split, count in made.clips.items())
    table = Table("modality", "features", "clips", "longest", "padding", "lengths from", title=f"{made.name}: {counts}")
    for key, report in made.modalities.items():
        cells: list[Any] = [
            report.features,
            report.clips,
            f"{report.longest_steps} steps",
            report.padding,
            report.lengths,
        ]
        table.add_row(key, *map(str, cells))
    out.print(table)
    for note in made.notes:
        out.print(f"Note: {escape(note)}", highlight=False, soft_wrap=True)
    out.print(f"Train on it: mmsa train --corpus {escape(str(made.folder))}", highlight=False, soft_wrap=True)
