"""What is drawn below the picture: scores, emotion bars, modalities, and the timeline with its playhead."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsa.scoring.colours import DARK, NEGATIVE, POSITIVE, class_colours
from mmsa.scoring.overlay.fonts import default_font, load_font
from mmsa.scoring.results import Score, TaskScore, WindowScore
from mmsa.scoring.stretches import Finder

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Pixels = NDArray[np.uint8]

MOST_BARS = 8
GROUND, TROUGH, INK, SOFT, WARN = "#12151a", "#262d37", "#eef1f5", "#a4aebb", "#ffb787"
PLAYHEAD = (255, 255, 255)
_BASE_WIDTH = 640


class Panel:
    """Draws the panel of one result; what stays the same from frame to frame is drawn once.

    Args:
        score: with windows.
        width: in pixels.
    """

    def __init__(self, score: Score, width: int) -> None:
        self._score, self.width, self._unit = score, width, width / _BASE_WIDTH
        scored = next((window.scores for window in score.windows if window.scores), {})
        self._value = next((name for name, one in scored.items() if one.value is not None), None)
        self._classes = next((name for name, one in scored.items() if one.value is None), None)
        self._finder = Finder(score.windows)
        self._start = score.start_seconds or 0.0
        ends = [window.end_seconds for window in score.windows]
        self._end = max([self._start + (score.duration_seconds or 0.0), *ends, self._start + 1e-3])
        self._names = _shown_classes(score, self._classes)
        self._extent = _extent(score, self._value)
        keys = max((len(window.modalities) for window in score.windows), default=0)
        rows = max(len(self._names), keys + 3)
        self._top = round((30 + 17 * rows) * self._unit)
        self.height = self._top + round(66 * self._unit)
        self._strip = self._draw_strip()
        self._readings = lru_cache(maxsize=4)(self._draw_readings)
        self._clocks = lru_cache(maxsize=4)(self._draw_clock)

    @property
    def track_span(self) -> tuple[float, float]:
        """Where the timeline begins and ends, in pixels from the left."""
        return 14 * self._unit, self.width - 14 * self._unit

    def playhead(self, seconds: float) -> int:
        """Where the playhead stands, in pixels from the left."""
        left, right = self.track_span
        share = (seconds - self._start) / (self._end - self._start)
        return round(left + min(1.0, max(0.0, share)) * (right - left))

    def draw(self, canvas: Pixels, seconds: float) -> None:
        """Draw the panel at an instant into `(height, width, 3)` RGB."""
        canvas[: self._top] = self._readings(self._finder.at(seconds))
        canvas[self._top :] = self._strip
        clock = self._clocks(int(seconds * 10))
        right = self.width - round(14 * self._unit)
        canvas[self._top : self._top + clock.shape[0], right - clock.shape[1] : right] = clock
        at, half = self.playhead(seconds), max(1, round(self._unit))
        canvas[self._top + round(18 * self._unit) : self.height - round(6 * self._unit), at - half : at + half] = (
            PLAYHEAD
        )

    def _font(self, size: float) -> Any:
        return load_font(default_font(), max(8, round(size * self._unit)))

    def _new(self, height: int) -> tuple[Any, ImageDraw]:
        from PIL import Image, ImageDraw

        image = Image.new("RGB", (self.width, height), GROUND)
        return image, ImageDraw.Draw(image)

    def _draw_readings(self, place: int | None) -> Pixels:
        image, draw = self._new(self._top)
        window = None if place is None else self._score.windows[place]
        if window is None or not window.smoothed:
            reason = "nothing could be scored here" if window is not None else "no window covers this moment"
            draw.text((14 * self._unit, 14 * self._unit), reason, SOFT, self._font(13))
        else:
            self._draw_value(draw, window)
            self._draw_bars(draw, window)
        if window is not None:
            self._draw_modalities(draw, window)
        return np.asarray(image)

    def _draw_value(self, draw: ImageDraw, window: WindowScore) -> None:
        if self._value is None or self._value not in window.smoothed:
            return
        u, score = self._unit, window.smoothed[self._value]
        value = score.value or 0.0
        draw.text((14 * u, 12 * u), self._value, SOFT, self._font(11))
        draw.text((14 * u, 25 * u), f"{value:+.2f}", INK, self._font(23))
        left, right, top = 96 * u, 226 * u, 34 * u
        middle, half = (left + right) / 2, (right - left) / 2
        draw.rounded_rectangle((left, top, right, top + 12 * u), 3 * u, TROUGH)
        span = window.scores[self._value].interval
        if span is not None:
            low, high = (middle + half * max(-1.0, min(1.0, one / self._extent)) for one in span)
            draw.rectangle((low, top + 4 * u, high, top + 8 * u), SOFT)
        end = middle + half * max(-1.0, min(1.0, value / self._extent))
        colour = DARK[POSITIVE if value >= 0 else NEGATIVE]
        draw.rectangle((min(middle, end), top, max(middle, end), top + 12 * u), colour)
        draw.line((middle, top - 3 * u, middle, top + 15 * u), INK, max(1, round(u)))

    def _draw_bars(self, draw: ImageDraw, window: WindowScore) -> None:
        if self._classes is None or self._classes not in window.smoothed:
            return
        u, score = self._unit, window.smoothed[self._classes]
        left, right = 344 * u, self.width - 56 * u
        font, held = self._font(12), _held(score)
        for row, (name, colour) in enumerate(self._names):
            top = (14 + 17 * row) * u
            share = score.probabilities[name]
            told = name if font.getlength(name) <= 80 * u else f"{name[:11]}…"
            draw.text((left - 8 * u, top + 6 * u), told, INK if name in held else SOFT, font, anchor="rm")
            draw.rounded_rectangle((left, top, right, top + 11 * u), 3 * u, TROUGH)
            if share * (right - left) >= 1:
                draw.rectangle((left, top, left + share * (right - left), top + 11 * u), DARK[colour])
            draw.text((self.width - 14 * u, top + 6 * u), f"{share:.0%}", INK if name in held else SOFT, font, "rm")

    def _draw_modalities(self, draw: ImageDraw, window: WindowScore) -> None:
        u, font = self._unit, self._font(11)
        for row, (key, one) in enumerate(window.modalities.items()):
            top = (66 + 17 * row) * u
            draw.text((14 * u, top + 6 * u), key, INK if one.present else WARN, font, anchor="lm")
            told = self._moved(window, key) if one.present else f"missing: {one.reason}"
            room = 180 * u
            while font.getlength(told) > room and len(told) > 2:
                told = f"{told[:-2]}…"
            draw.text((66 * u, top + 6 * u), told, SOFT if one.present else WARN, font, anchor="lm")

    def _moved(self, window: WindowScore, key: str) -> str:
        name = self._value or self._classes or ""
        moved = window.modalities[key].contribution.get(name)
        return "there" if moved is None else f"moved {name} by {moved:+.2f}"

    def _draw_clock(self, tenths: int) -> Pixels:
        from PIL import Image, ImageDraw

        u, font = self._unit, self._font(11)
        told = f"{_clock(tenths / 10)} / {_clock(self._end)}"
        image = Image.new("RGB", (round(font.getlength(told)) + 2, round(15 * u)), GROUND)
        ImageDraw.Draw(image).text((image.width, 7 * u), told, INK, font, anchor="rm")
        return np.asarray(image)

    def _smoothed(self) -> list[float]:
        """The values of the strip, whose height is the greatest of them."""
        name = self._value or ""
        return [window.smoothed[name].value or 0.0 for window in self._score.windows if name in window.smoothed]

    def _draw_strip(self) -> Pixels:
        """The whole timeline: the smoothed value around its middle, and the leading class below."""
        u = self._unit
        height = self.height - self._top
        image, draw = self._new(height)
        left, right = self.track_span
        draw.text((left, 7 * u), self._value or self._classes or "", SOFT, self._font(11), anchor="lm")
        top, bottom, ribbon = 20 * u, 50 * u, 57 * u
        draw.rectangle((left, top, right, bottom), TROUGH)
        middle, half = (top + bottom) / 2, (bottom - top) / 2
        colours = dict(self._names)
        most = max((abs(value) for value in self._smoothed()), default=0.0) or 1.0
        for window, (start, end) in zip(self._score.windows, self._finder.stretches, strict=True):
            x0, x1 = (left + (at - self._start) / (self._end - self._start) * (right - left) for at in (start, end))
            if self._value is not None and self._value in window.smoothed:
                value = window.smoothed[self._value].value or 0.0
                y = middle - half * value / most
                shade = DARK[POSITIVE if value >= 0 else NEGATIVE]
                draw.rectangle((x0, min(y, middle), max(x0, x1 - 1), max(y, middle)), shade)
            if self._classes is not None and self._classes in window.smoothed:
                probabilities = window.smoothed[self._classes].probabilities
                leading = max(probabilities, key=lambda name: probabilities[name])
                place = ribbon - 3 * u if self._value is not None else top
                if leading in colours:
                    draw.rectangle((x0, place, max(x0, x1 - 1), ribbon + 3 * u), DARK[colours[leading]])
        draw.line((left, middle, right, middle), SOFT, 1)
        return np.asarray(image)


def _shown_classes(score: Score, task: str | None) -> list[tuple[str, int]]:
    """The classes with bars, each with its colour: all, or those that are the most probable over the file."""
    if task is None or score.summary is None:
        return []
    means = score.summary.tasks[task].probabilities
    colours = dict(zip(means, class_colours(list(means)), strict=True))
    kept = sorted(means, key=lambda name: -means[name])[:MOST_BARS]
    return [(name, colours[name]) for name in means if name in kept]


def _extent(score: Score, task: str | None) -> float:
    """The value at the end of the gauge: the next round number beyond every value and interval."""
    if task is None:
        return 1.0
    most = 0.0
    for window in score.windows:
        if task in window.scores:
            one = window.scores[task]
            most = max(most, abs(one.value or 0.0), *(abs(end) for end in one.interval or ()))
    return next((float(nice) for nice in (0.25, 0.5, 1, 2, 3, 5, 10, 20, 50, 100) if nice >= most - 1e-9), most)


def _held(score: TaskScore) -> tuple[str, ...]:
    return score.labels if score.labels is not None else (score.label or "",)


def _clock(seconds: float) -> str:
    whole = int(seconds)
    tail = f"{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
    return (f"{whole // 3600}:{tail}" if whole >= 3600 else tail) + f".{int(seconds * 10 + 1e-6) % 10}"
