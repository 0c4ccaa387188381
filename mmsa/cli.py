"""The command line: every command, and how the program ends."""

from __future__ import annotations

import atexit
import gc
import signal
import sys

import typer

from mmsa.commands import benchmark, corpus, doctor, evaluate, extract, heads, live, score, sweep, train, ui
from mmsa.commands.console import err, plain
from mmsa.distributed import current, launched, refuse_launch
from mmsa.errors import UsageError
from mmsa.kernels import bound_kernel_cache

INTERRUPTED = 130
"""Exit code after Ctrl-C or a polite kill."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Sentiment and emotion from video: text, speech and face, fused.",
)


@app.callback()
def _begin(context: typer.Context) -> None:
    if context.invoked_subcommand != "train":
        refuse_launch(f"mmsa {context.invoked_subcommand}")


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
    atexit.register(gc.freeze)  # Python's last search for cycles, through all that was imported, takes half a second
    bound_kernel_cache()
    try:
        app()
    except UsageError as error:
        _fail(error)
    except (KeyboardInterrupt, SystemExit) as ended:
        if isinstance(ended, SystemExit) and ended.code != INTERRUPTED:  # typer turns an interruption into an exit
            raise
        by = "" if launched() == 1 else ", or another process of the training ended: it goes on with --resume latest"
        err.print(f"Interrupted{by}. What was finished is kept.", soft_wrap=True)
        sys.exit(INTERRUPTED)
    except RuntimeError as error:
        from extractors import ToolError  # not above: `mmsa --help` need not wait for numpy

        if not isinstance(error, ToolError):
            raise
        _fail(error)


def _interrupt(number: int, frame: object) -> None:
    """A polite kill ends like Ctrl-C: the run is marked as killed, files are closed."""
    raise KeyboardInterrupt


def _fail(error: Exception) -> None:
    group = current()
    if group.is_main or not group.main_failed_too():
        where = "" if group.is_main else f" (process {group.rank} of {group.size})"
        err.quiet = False
        err.print(f"[bold red]Error{where}:[/] {plain(str(error))}", highlight=False, soft_wrap=True)
    if group.is_main and group.size > 1:
        group.main_failed_too()  # so that the others know that it is said
    sys.exit(2)
