"""The command line: every command, and how the program ends."""

from __future__ import annotations

import signal
import sys

import typer

from mmsa.commands import benchmark, corpus, doctor, evaluate, extract, heads, live, score, sweep, train, ui
from mmsa.commands.console import err, plain
from mmsa.errors import UsageError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Sentiment and emotion from video: text, speech and face, fused.",
)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(extract.extract)
app.command()(benchmark.benchmark)
app.command()(score.score)
app.command()(live.live)
app.command()(sweep.sweep)
app.command()(heads.heads)
app.command()(ui.ui)
app.command()(doctor.doctor)
app.add_typer(corpus.app, name="corpus")


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
    err.print(f"[bold red]Error:[/] {plain(str(error))}", highlight=False, soft_wrap=True)
    sys.exit(2)
