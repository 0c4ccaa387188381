"""How far a batch is and how long it will take, weighed by the size of its files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from mmsa.scoring.inputs import Input
from mmsa.scoring.remote import is_address

EVERY_SECONDS = 30.0
"""How often a line is written where no terminal shows a bar (a log file)."""


class Meter:
    """A progress bar on standard error; use it in a `with` statement.

    Args:
        items: all inputs that are to be scored.
        label: what is done.
    """

    def __init__(self, items: Sequence[Input], label: str = "Scoring") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._weights = {item.identity: _weight(item) for item in items}
        self._total = sum(self._weights.values())
        self._count, self._done, self._finished = len(items), 0.0, 0
        self._begun: dict[str, float] = {}
        self._label, self._began, self._told = label, time.monotonic(), time.monotonic()
        self._console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[files]}"),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task(label, total=self._total, files=self.files)

    def __enter__(self) -> Meter:
        if not self._console.is_terminal:
            self._console.print(f"{self._label} ({self._count}) …")
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def files(self) -> str:
        """Such as `"3/200"`."""
        return f"{self._finished}/{self._count}"

    def within(self, item: Input, share: float) -> None:
        """An input is not finished, but so far; several may be under way."""
        self._begun[item.identity] = share * self._weights[item.identity]
        self._show()

    def finished(self, item: Input) -> None:
        """An input is finished."""
        self._begun.pop(item.identity, None)
        self._done += self._weights[item.identity]
        self._finished += 1
        self._show()

    def _show(self) -> None:
        done = self._done + sum(self._begun.values())
        self._bar.update(self._task, completed=done, files=self.files)
        now = time.monotonic()
        if self._console.is_terminal or now - self._told < EVERY_SECONDS:
            return
        self._told = now
        share = done / self._total if self._total else 1.0
        left = (now - self._began) * (1 - share) / share if share > 0 else float("nan")
        self._console.print(f"{self._label}: {self.files}, {share:.0%}, about {left / 60:.1f} min left")


def _weight(item: Input) -> float:
    """In bytes; a file that is not there, or far away, counts as a small one."""
    try:
        size = 0 if is_address(item.path) else Path(item.path).stat().st_size
    except OSError:
        size = 0
    return float(max(size, 100_000))
