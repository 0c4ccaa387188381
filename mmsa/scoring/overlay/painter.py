"""A frame of the overlay: the picture with face mesh and subtitle, the panel below it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsa.scoring.lines import Line
from mmsa.scoring.overlay.fonts import default_font, find_font, load_font, wrap
from mmsa.scoring.overlay.mesh import draw_mesh
from mmsa.scoring.overlay.panel import GROUND, SOFT, Panel
from mmsa.scoring.results import Score

Pixels = NDArray[np.uint8]

LEAST_WIDTH, CARD = 640, (960, 300)
_MOST_UPSCALED_HEIGHT = 640
_SUBTITLE_LINES = 2


class OverlayPainter:
    """Paints every frame of one result; see `mmsa.scoring.encode.Painter`.

    Pictures narrower than `LEAST_WIDTH` pixels are scaled up, or stand in the middle where they would become too high.
    Where there is no picture, a card with the file's name stands for it.

    Args:
        score: with windows.
        lines: what is said.

    Attributes:
        notes: what a user should know of how it is drawn.
    """

    def __init__(self, score: Score, lines: Sequence[Line]) -> None:
        self._score, self._lines = score, sorted(lines, key=lambda one: one.start_seconds)
        self._starts = [one.start_seconds for one in self._lines]
        self._title = Path(score.path).name
        texts = "".join(sorted({letter for one in self._lines for letter in one.text} | set(self._title)))
        self._font, note = find_font(texts)
        self.notes = (note,) if note else ()
        self._subtitle = lru_cache(maxsize=2)(self._draw_subtitle)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """See `Painter`."""
        width, height = (width, height) if width and height else CARD
        scale = min(LEAST_WIDTH / width, max(1.0, _MOST_UPSCALED_HEIGHT / height)) if width < LEAST_WIDTH else 1.0
        self._inner = round(width * scale), round(height * scale)
        whole = max(LEAST_WIDTH, self._inner[0])
        whole += whole % 2
        self._panel = Panel(self._score, whole)
        self._above = self._inner[1]
        self._size = whole, self._above + self._panel.height + (self._above + self._panel.height) % 2
        self._card = self._draw_card()
        return self._size

    @property
    def panel(self) -> Panel:
        """What is drawn below the picture; known when `size` was asked for."""
        return self._panel

    @property
    def picture_box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the picture in the frame."""
        left = (self._size[0] - self._inner[0]) // 2
        return left, 0, left + self._inner[0], self._above

    def paint(self, picture: Pixels | None, seconds: float, face: NDArray[np.float64] | None) -> Pixels:
        """See `Painter`."""
        width, height = self._size
        canvas = np.empty((height, width, 3), np.uint8)
        canvas[: self._above] = self._card
        if picture is not None:
            left, top, right, bottom = self.picture_box
            canvas[top:bottom, left:right] = self._fitted(picture, face)
        self._lay_subtitle(canvas, seconds)
        self._panel.draw(canvas[self._above : self._above + self._panel.height], seconds)
        canvas[self._above + self._panel.height :] = _rgb(GROUND)
        return canvas

    def _fitted(self, picture: Pixels, face: NDArray[np.float64] | None) -> Pixels:
        """The picture in its box, with bars where its shape is another than the first one's."""
        import cv2

        wide, high = self._inner
        height, width = picture.shape[:2]
        scale = min(wide / width, high / height)
        inner = max(1, min(wide, round(width * scale))), max(1, min(high, round(height * scale)))
        if inner != (width, height):
            way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            picture = np.asarray(cv2.resize(picture, inner, interpolation=way), np.uint8)
        if face is not None:
            # The picture may be held and painted again.
            picture = picture.copy() if inner == (width, height) else np.ascontiguousarray(picture)
            for one in face.reshape(-1, *face.shape[-2:]):
                draw_mesh(picture, one)
        if inner == (wide, high):
            return picture
        box = np.zeros((high, wide, 3), np.uint8)
        left, top = (wide - inner[0]) // 2, (high - inner[1]) // 2
        box[top : top + inner[1], left : left + inner[0]] = picture
        return box

    def _lay_subtitle(self, canvas: Pixels, seconds: float) -> None:
        place = bisect_right(self._starts, seconds + 1e-6) - 1
        if place < 0 or seconds >= self._lines[place].end_seconds:
            return
        box = self._subtitle(place)
        if box is None:
            return
        top = max(0, self._above - box.shape[0] - round(self._size[0] / 64))
        left = (self._size[0] - box.shape[1]) // 2
        under = canvas[top : top + box.shape[0], left : left + box.shape[1]]
        share = box[: under.shape[0], :, 3:].astype(np.float32) / 255
        under[:] = np.round(under * (1 - share) + box[: under.shape[0], :, :3] * share).astype(np.uint8)

    def _draw_subtitle(self, place: int) -> Pixels | None:
        from PIL import Image, ImageDraw

        unit = self._size[0] / 640
        line = self._lines[place]
        told = f"{line.speaker}: {line.text}" if line.speaker and not line.text.startswith(line.speaker) else line.text
        font = load_font(self._font, round(17 * unit))
        rows = wrap(told, font, self._size[0] * 0.86, _SUBTITLE_LINES)
        if not rows:
            return None
        pad, step = round(8 * unit), round(22 * unit)
        width = round(max(font.getlength(row) for row in rows)) + 2 * pad
        image = Image.new("RGBA", (width, step * len(rows) + pad), (0, 0, 0, 165))
        draw = ImageDraw.Draw(image)
        for row, text in enumerate(rows):
            draw.text((width / 2, pad / 2 + step * (row + 0.5)), text, (255, 255, 255, 255), font, anchor="mm")
        return np.asarray(image)

    def _draw_card(self) -> Pixels:
        """What stands behind the picture, or for it."""
        from PIL import Image, ImageDraw

        image = Image.new("RGB", (self._size[0], self._above), "#0c0e12")
        if self._inner[0] < self._size[0] and self._inner != CARD:
            return np.asarray(image)
        unit = self._size[0] / 640
        draw = ImageDraw.Draw(image)
        for row, text in enumerate(wrap(self._title, load_font(self._font, round(20 * unit)), self._size[0] * 0.86, 2)):
            draw.text(
                (self._size[0] / 2, (60 + 28 * row) * unit),
                text,
                "#eef1f5",
                load_font(self._font, round(20 * unit)),
                "mm",
            )
        draw.text(
            (self._size[0] / 2, 120 * unit), "sound only", SOFT, load_font(default_font(), round(13 * unit)), "mm"
        )
        return np.asarray(image)


def _rgb(colour: str) -> Any:
    return tuple(bytes.fromhex(colour[1:]))
