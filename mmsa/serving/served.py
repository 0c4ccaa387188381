"""`ServedModel`: what MLflow calls with a table of media, and what it answers."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsa.errors import UsageError
from mmsa.scoring import Score, Scorer, Timeline
from mmsa.scoring.exports import records
from mmsa.serving.columns import PARAMS, output_columns
from mmsa.serving.places import allowed_file, uploaded
from mmsa.serving.settings import ServeSettings, how_to_raise

if TYPE_CHECKING:
    import pandas as pd


class ServedModel:
    """Scores tables of media within limits; see docs/serving.md.

    One table is scored at a time: extractors hold state. Several processes (`mlflow models serve --workers`) work side
    by side, each with its own copy of the model.

    Args:
        scorer: of the bundle.
        settings: what may be read.
    """

    def __init__(self, scorer: Scorer, settings: ServeSettings) -> None:
        self.scorer, self.settings = scorer, settings
        self._columns = output_columns(scorer.bundle)
        self._one_at_a_time = threading.Lock()

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Score every row.

        Args:
            model_input: columns `path` or `media` (the file's bytes), and `text`, `start`, `end`, `id` where wanted.
            params: `window_seconds` and `hop_seconds`.

        Returns:
            A row for each window, of which a row scored as one clip has one; for a row that could not be scored, one
            with its `error`. `row` is the number of the request's row, from 0.
        """
        import pandas as pd

        answers: list[dict[str, Any]] = []
        with self._one_at_a_time:
            for number, row in enumerate(pd.DataFrame(model_input).to_dict(orient="records")):
                answers += self._answer(number, {str(key): _plain(value) for key, value in row.items()}, params or {})
        found = pd.DataFrame(answers, columns=list(self._columns), dtype=object)
        return found.where(found.notna(), None)  # JSON has no NaN

    def _answer(self, number: int, row: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        score = self._score(number, row, params)
        for record in records(score):
            yield {name: value for name, value in record.items() if name in self._columns} | {"row": number}

    def _score(self, number: int, row: Mapping[str, Any], params: Mapping[str, Any]) -> Score:
        import extractors as ex

        name = row.get("path") or ("upload" if row.get("media") else "")
        with ExitStack() as stack:
            try:
                if number >= self.settings.max_rows:
                    raise UsageError(
                        f"row {number + 1} of the request, but at most {self.settings.max_rows} are scored; "
                        f"{how_to_raise('max_rows')}"
                    )
                timeline = _timeline(params)
                path = self._file(row, stack)
            except UsageError as error:
                return Score(name, row.get("id"), error=str(error))
            try:
                span = (row.get("start"), row.get("end"))
                self._check_length(path, span, timeline)
                # Beside an upload lies nothing; a path without text may have a transcript beside it.
                found = self.scorer.score_clip(path, timeline, text=row.get("text"), span=span)
                return replace(found, path=name, id=row.get("id"))
            except Exception as error:  # noqa: BLE001 - one bad row must not end the others
                told = str(error)
                if not isinstance(error, UsageError | ex.MediaError):
                    told = f"{type(error).__name__}: {told}"
                return Score(name, row.get("id"), error=told.replace(str(path), name))

    def _file(self, row: Mapping[str, Any], stack: ExitStack) -> Path:
        given, media = row.get("path"), row.get("media")
        if (given is None) == (media is None):
            what = "both path and media" if given is not None else "neither path nor media"
            raise UsageError(f"a row needs a path, or the file's bytes as media (base64 in JSON), but has {what}")
        if given is not None:
            return allowed_file(given, self.settings)
        if not isinstance(media, bytes | bytearray):
            raise UsageError(f"media must be the file's bytes (base64 in JSON), not {type(media).__name__}")
        return stack.enter_context(uploaded(bytes(media), self.settings))

    def _check_length(self, path: Path, span: tuple[float | None, float | None], timeline: Timeline) -> None:
        """Refuse too much media before any of it is decoded.

        The file's own word is not taken for its length: its packets are counted.
        """
        from extractors.image_post import find_still_images
        from extractors.media import MediaFile

        if find_still_images(path):
            return
        with MediaFile(path) as media:
            length = media.measure_seconds(announced=False)
        scored = max(0.0, min(length, math.inf if span[1] is None else span[1]) - (span[0] or 0.0))
        if scored > self.settings.max_seconds:
            raise UsageError(
                f"{path}: {scored:.1f} s of media, but at most {self.settings.max_seconds:g} s are scored; give start "
                f"and end, or raise the limit: {how_to_raise('max_seconds')}"
            )
        if timeline.hop_seconds is None:
            return
        windows = math.ceil(length / timeline.hop_seconds)
        if windows > self.settings.max_windows:
            raise UsageError(
                f"{path}: a window every {timeline.hop_seconds:g} s makes {windows}, but at most "
                f"{self.settings.max_windows} are scored; take a longer hop_seconds, or raise the limit: "
                f"{how_to_raise('max_windows')}"
            )


def _timeline(params: Mapping[str, Any]) -> Timeline:
    window, hop = (float(params.get(name, default)) or None for name, default in PARAMS.items())
    return Timeline(window, hop)


def _plain(value: Any) -> Any:
    """None for what pandas or a client puts where nothing is."""
    if value is None or value == "" or value == b"" or (isinstance(value, float) and math.isnan(value)):
        return None
    return value
