"""Picking the frames that are on screen at regular instants, turned upright, scaled and in RGB."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Containers round timestamps to milliseconds: a frame stamped 0.101 s is on screen at 0.1 s.
_ROUNDING_SECONDS = 0.0011
# A picture that stands still for longer than this says nothing new; the time after it is a gap.
HOLD_SECONDS = 10.0

PushFrame = Callable[[NDArray[np.uint8], Sequence[int]], None]

# Of a frame on a GPU, by the format that it has there: what a decoder on the CPU gives.
_PLANAR = {"nv12": "yuv420p", "p010le": "yuv420p10le", "p016le": "yuv420p12le"}


def upright_size(width: int, height: int, max_side_pixels: int, aspect: float) -> tuple[int, int]:
    """Width and height of a frame, before it is turned, with square pixels and scaled down to fit.

    Example:
        >>> upright_size(720, 576, 512, 16 / 15)
        (512, 384)
    """
    wide, high = width * max(aspect, 1.0), height * max(1.0 / aspect, 1.0)
    scale = min(1.0, max_side_pixels / max(wide, high))
    return max(1, round(wide * scale)), max(1, round(high * scale))


class UprightFrames:
    """Turns decoded frames into pictures as they are meant to be seen: upright, with square pixels, in RGB.

    A frame that a GPU decoded is fetched into memory first, as the planes that a decoder on the CPU gives: swscale then
    makes the same picture of it, to the last bit.

    Args:
        max_side_pixels: frames are scaled down by area to fit; never up.
        aspect: width of a pixel over its height.
    """

    def __init__(self, max_side_pixels: int, aspect: float = 1.0) -> None:
        self._side, self._aspect = max_side_pixels, aspect
        self._reformatter: Any = None

    def convert(self, frame: Any) -> NDArray[np.uint8]:
        """`(H, W, 3)` of an `av.VideoFrame`."""
        import av

        if self._reformatter is None:
            self._reformatter = av.video.reformatter.VideoReformatter()
        size = upright_size(frame.width, frame.height, self._side, self._aspect)
        rgb = self._reformatter.reformat(in_memory(frame), *size, "rgb24", interpolation="AREA").to_ndarray()
        turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def in_memory(frame: Any) -> Any:
    """An `av.VideoFrame` as a decoder on the CPU gives it: itself, or what a GPU decoded, fetched."""
    on_device = frame.sw_format
    if on_device is None:
        return frame
    return frame.reformat(format=_PLANAR.get(on_device.name, on_device.name))


class FrameSampler:
    """Feeds the frame shown at `k / frames_per_second` to `push`, for each wanted `k`.

    A frame is shown from its timestamp to the next frame's, so variable frame rates come out right. Only sampled
    frames are converted.
    """

    def __init__(
        self,
        frames_per_second: float,
        max_side_pixels: int,
        push: PushFrame,
        *,
        first_index: int = 0,
        end_index: int | None = None,
        latest_seconds: float = math.inf,
        aspect: float = 1.0,
        convert: Callable[[Any], Any] | None = None,
    ) -> None:
        """Prepare for one clip.

        Args:
            frames_per_second: sampling rate.
            max_side_pixels: frames are scaled down to fit.
            push: takes an `(H, W, 3)` RGB image and the indices `k` at which it is shown.
            first_index: first `k` wanted.
            end_index: `k` after the last wanted; None is the end of the stream.
            latest_seconds: a timestamp beyond this is a mistake in the file; such a frame is left out.
            aspect: width of a pixel over its height.
            convert: makes of an `av.VideoFrame` what is pushed; None is `UprightFrames.convert`.
        """
        self._rate, self._push = frames_per_second, push
        self._first, self._next, self._end = first_index, first_index, end_index
        self._latest_seconds = latest_seconds
        self._convert = convert or UprightFrames(max_side_pixels, aspect).convert
        self._shown: Any = None
        self._shown_seconds = 0.0
        self._usual_seconds = 1.0 / frames_per_second
        self.frames = 0
        self.sampled = 0
        self.lost = self.corrupt = self.misplaced = 0
        self.first_seconds, self.end_seconds = first_index / frames_per_second, 0.0

    @property
    def done(self) -> bool:
        """Whether every wanted instant has been dealt with."""
        return self._end is not None and self._next >= self._end

    def wants(self, start_seconds: float, end_seconds: float) -> bool:
        """Whether a frame that is shown from here to there is one to sample; if not, feeding it changes nothing."""
        first, after = self._index(start_seconds), self._index(end_seconds)
        return max(first, self._first) < (after if self._end is None else min(after, self._end))

    def feed(self, frame: Any, seconds: float | None) -> None:
        """Take a decoded `av.VideoFrame` shown from `seconds` on the media's clock (None where unknown)."""
        if self.done:
            return
        if frame.is_corrupt:
            self.corrupt += 1
            return
        if seconds is None or not math.isfinite(seconds):
            seconds = self._shown_seconds + self._usual_seconds if self._shown is not None else 0.0
        if seconds > self._latest_seconds or (self._shown is not None and seconds < self._shown_seconds):
            self.misplaced += 1
            return
        self.frames += 1
        if self._shown is not None:
            self._show_until(seconds)
            if seconds > self._shown_seconds:
                self._usual_seconds = min(seconds - self._shown_seconds, 1.0)
        self._shown, self._shown_seconds = frame, seconds
        lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
        self._usual_seconds = lasts if 0.0 < lasts <= HOLD_SECONDS else self._usual_seconds
        self.end_seconds = max(self.end_seconds, seconds + self._usual_seconds)

    def lose(self, end_seconds: float | None) -> None:
        """Count a packet that could not be decoded, if it would have been shown in what is wanted."""
        if not self.done and (end_seconds is None or end_seconds >= self.first_seconds):
            self.lost += 1

    def finish(self) -> None:
        """Sample the last frame for as long as it lasts."""
        if self._shown is not None and not self.done:
            self._show_until(self._shown_seconds + self._usual_seconds)
        self._shown = None

    def _show_until(self, seconds: float) -> None:
        """Sample the frame on screen at each wanted instant before `seconds`."""
        first, after = self._index(self._shown_seconds), self._index(seconds)
        held = math.ceil((self._shown_seconds + HOLD_SECONDS) * self._rate)
        wanted = range(max(first, self._next), min(after, held, after if self._end is None else self._end))
        if wanted:
            self._push(self._convert(self._shown), wanted)
            self.sampled += len(wanted)
        self._next = max(self._next, after)

    def _index(self, seconds: float) -> int:
        """The first `k` at which a frame can be on screen that is shown from here."""
        return math.ceil((seconds - _ROUNDING_SECONDS) * self._rate)
