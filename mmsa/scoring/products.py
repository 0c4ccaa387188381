"""What a batch makes of its rows beside tables: overlays and a report."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

from mmsa.errors import UsageError
from mmsa.many import run_many
from mmsa.scoring.batch import Recipe, scorer_of
from mmsa.scoring.files import Names
from mmsa.scoring.inputs import Input
from mmsa.scoring.meter import Meter
from mmsa.scoring.overlay import Overlay, face_tracker, write_overlay
from mmsa.scoring.results import Score
from mmsa.scoring.store import read_score, row_places

SUFFIX = "-overlay"
"""What stands behind the name of an overlay, so that it never has the name of its media."""


@dataclass(frozen=True)
class Place:
    """A row from which an overlay is made.

    Attributes:
        byte: where it begins in the file of rows.
        target: the overlay's file, without a suffix.
        item: what was scored.
        key: the row's.
    """

    byte: int
    target: Path
    item: Input
    key: str


class Products:
    """Makes overlays and a report when a batch is scored; use it in a `with` statement.

    Args:
        report: folder of the report; None for none.
        media: how the report plays its media; None is `"auto"`.
        overlay: folder of the overlays; None for none.
        tell: called with each message.

    Raises:
        UsageError: a way to play media without a report, a folder that cannot be made, no encoder: before any work.
    """

    def __init__(
        self, report: Path | None, media: str | None, overlay: Path | None, tell: Callable[[str], None]
    ) -> None:
        from mmsa.scoring.encode import find_encoder
        from mmsa.scoring.report import Report

        if media is not None and report is None:
            raise UsageError("--report-media says how a report plays its media: give --report, too")
        self._report = None if report is None else Report(report, media=media or "auto")
        self._overlay, self._tell = overlay, tell
        if overlay is not None:
            self._encoder = find_encoder()
            try:
                overlay.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"no overlay can be written to {overlay}: {error}") from None
        self._stack = ExitStack()
        self._rows: Path | None = None

    def __enter__(self) -> Products:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def wanted(self) -> bool:
        """Whether anything is to be made."""
        return self._report is not None or self._overlay is not None

    def add(self, score: Score) -> None:
        """Keep a result on the disk until all are there, where no file of rows is written."""
        if self._rows is None:
            self._rows = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="mmsa-"))) / "rows.jsonl"
        with self._rows.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps(score.to_dict(), ensure_ascii=False) + "\n")

    def make(self, rows: Path | None, recipe: Recipe, jobs: int) -> bool:
        """Make all that is wanted; returns whether every overlay could be made.

        Args:
            rows: the file of rows; None takes what `add` kept.
            recipe: what the rows were scored with.
            jobs: processes that draw overlays.
        """
        from mmsa.scoring.store import read_scores

        found = rows or self._rows
        if not self.wanted or found is None:
            return True
        overlays, failed = self._draw(found, recipe, jobs)
        if self._report is not None:
            with self._report as report:
                for score in read_scores(found):
                    report.add(score, overlays.get(score.key))
            self._tell(f"report: {report.index}")
        return not failed

    def _draw(self, rows: Path, recipe: Recipe, jobs: int) -> tuple[dict[str, Path], int]:
        if self._overlay is None:
            return {}, 0
        places = list(_places(rows, self._overlay))
        made, failed, told = dict[str, Path](), 0, dict[str, None]()
        with Meter([place.item for place in places], label="Drawing overlays") as meter:
            draw: Callable[[Place], Overlay] = partial(draw_place, rows, recipe)
            if jobs <= 1:
                draw = partial(draw_place, rows, recipe, within=meter.within)
            for place, result in run_many(draw, places, processes=jobs, isolated=jobs > 1):
                meter.finished(place.item)
                if isinstance(result, Exception):
                    failed += 1
                    self._tell(f"no overlay of {place.item.path}: {result}")
                    continue
                made[place.key] = result.path
                told |= dict.fromkeys(result.notes)
        kept = f" with {self._encoder}" if made else ""
        self._tell(f"overlays: {len(made)} in {self._overlay}{kept}" + "".join(f"; {note}" for note in told))
        return made, failed


def _places(rows: Path, folder: Path) -> Iterator[Place]:
    names = Names()
    for byte in row_places(rows):
        score = read_score(rows, byte)
        if score.error is None:
            item = Input(score.path, score.start_seconds, score.end_seconds, id=score.id)
            yield Place(byte, folder / f"{names.of(score)}{SUFFIX}", item, score.key)


def draw_place(
    rows: Path, recipe: Recipe, place: Place, within: Callable[[Input, float], None] | None = None
) -> Overlay:
    """Draw the overlay of one row."""

    def tell(seconds: float, announced: float | None) -> None:
        if within is not None and announced:
            within(place.item, min(1.0, seconds / announced))

    tracker = face_tracker(scorer_of(recipe).extractors)
    return write_overlay(read_score(rows, place.byte), place.target, tracker, progress=tell)
