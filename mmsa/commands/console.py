"""What all commands share: where they print, and how they read lists from options."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from mmsa.distributed import is_main
from mmsa.errors import UsageError

out = Console()
err = Console(stderr=True)


def quieten() -> None:
    """Print nothing where the main one of several launched processes prints."""
    out.quiet = err.quiet = not is_main()


Json = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")]


def names(given: str | None) -> tuple[str, ...] | None:
    """`"text, audio"` → `("text", "audio")`; None stays None."""
    return None if given is None else tuple(name.strip() for name in given.split(",") if name.strip())


def seed_numbers(given: str) -> tuple[int, ...]:
    """`"1,2,3"` → `(1, 2, 3)`.

    Raises:
        UsageError: not whole numbers, one twice, or one below 0.
    """
    try:
        seeds = tuple(int(part) for part in given.split(","))
    except ValueError:
        raise UsageError(f"--seeds takes whole numbers with commas between, such as 1,2,3, not {given!r}") from None
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UsageError(f"--seeds takes each number once, none below 0, not {given!r}")
    return seeds


def plain(text: str) -> str:
    """Text that holds no markup, as it is."""
    from rich.markup import escape

    return escape(text)
