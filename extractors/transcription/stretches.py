"""Cutting sound at pauses into stretches that a recogniser of bounded length takes, and leaving silence out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FRAME_SECONDS = 0.02
_QUIETEST_SECONDS = 0.2


@dataclass(frozen=True)
class Stretch:
    """A piece of sound in which somebody may speak.

    Attributes:
        first_sample: where it begins, counted from the first sample pushed.
        samples: `(N,)`.
    """

    first_sample: int
    samples: NDArray[np.float32]


class StretchCutter:
    """Takes sound in blocks of any size and hands out stretches; how it is blocked changes nothing.

    Recognisers such as Whisper make words up where there is silence, and cut words that lie on an edge in two. So
    silence is left out, a stretch ends at a pause of `pause_seconds`, and one that would get longer than
    `longest_seconds` is cut where its second half is quietest (over 0.2 s), as WhisperX does (Bain et al. 2023, by
    voice activity in the place of energy). Stretches do not overlap, so their words follow each other without any
    matching. In unbroken loud sound, such as music, the quietest place may lie within a word.

    Args:
        sample_rate_hz: of the sound.
        longest_seconds: length of a stretch at most.
        silence_db: 20 ms with a root mean square below this, relative to full scale, are silent.
        pause_seconds: so much silence ends a stretch.
        margin_seconds: silence that is kept on either side.
        least_seconds: a stretch with less sound than this is a click and left out.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        longest_seconds: float,
        *,
        silence_db: float,
        pause_seconds: float = 2.0,
        margin_seconds: float = 0.2,
        least_seconds: float = 0.1,
    ) -> None:
        self._frame = round(_FRAME_SECONDS * sample_rate_hz)
        self._longest = int(longest_seconds / _FRAME_SECONDS + 1e-9)
        self._pause = max(1, round(min(pause_seconds, longest_seconds / 2) / _FRAME_SECONDS))
        self._margin = round(margin_seconds / _FRAME_SECONDS)
        self._least = round(least_seconds / _FRAME_SECONDS)
        self._floor = 10.0 ** (silence_db / 10.0)
        self._samples = np.zeros(0, np.float32)
        self._power = np.zeros(0)
        self._first = 0  # frame number of the first sample held

    def push(self, samples: NDArray[np.float32]) -> Iterator[Stretch]:
        """Take the next samples `(N,)`; yields the stretches that are complete."""
        step = self._longest * self._frame
        for start in range(0, len(samples), step):
            self._samples = np.concatenate([self._samples, samples[start : start + step]])
            self._measure()
            yield from self._cut(final=False)

    def finish(self) -> Iterator[Stretch]:
        """The last stretches; called once."""
        short = -len(self._samples) % self._frame
        length = len(self._samples)
        self._samples = np.concatenate([self._samples, np.zeros(short, np.float32)])
        self._measure()
        end = self._first * self._frame + length
        for stretch in self._cut(final=True):
            yield Stretch(stretch.first_sample, stretch.samples[: end - stretch.first_sample])

    def _measure(self) -> None:
        known = len(self._power) * self._frame
        fresh = self._samples[known : len(self._samples) // self._frame * self._frame]
        power = (fresh.reshape(-1, self._frame).astype(np.float64) ** 2).mean(axis=1)
        self._power = np.concatenate([self._power, power])

    def _cut(self, *, final: bool) -> Iterator[Stretch]:
        while True:
            loud = self._power >= self._floor
            if not loud.any():
                self._drop(max(0, len(loud) - self._margin))
                return
            self._drop(max(0, int(loud.argmax()) - self._margin))
            loud = self._power[: self._longest] >= self._floor
            end = _pause_after(loud, self._pause)
            if end is None and len(loud) == self._longest and (len(self._power) > self._longest or not final):
                if len(self._power) == self._longest:
                    return  # the sound may end right here, and then nothing is to be cut
                end, margin = self._quietest(), 0
            elif end is None:
                if not final:
                    return
                end, margin = int(np.flatnonzero(loud)[-1]) + 1, self._margin
            else:
                margin = self._margin
            after = min(end + margin, self._longest, len(self._power))
            if loud[:after].sum() >= self._least:
                yield Stretch(self._first * self._frame, self._samples[: after * self._frame])
            self._drop(after)

    def _quietest(self) -> int:
        """The frame in the second half of the longest stretch around which it is quietest."""
        width = round(_QUIETEST_SECONDS / _FRAME_SECONDS)
        half = self._power[self._longest // 2 : self._longest]
        width = min(width, len(half))
        mean = np.convolve(half, np.ones(width) / width, mode="valid")
        return self._longest // 2 + int(mean.argmin()) + width // 2

    def _drop(self, frames: int) -> None:
        self._samples, self._power = self._samples[frames * self._frame :], self._power[frames:]
        self._first += frames


def _pause_after(loud: NDArray[np.bool_], length: int) -> int | None:
    """The first silent frame of the first pause of this length behind a loud frame."""
    at = np.flatnonzero(loud)
    gaps = np.diff(np.append(at, len(loud)))
    found = np.flatnonzero(gaps > length)
    return int(at[found[0]]) + 1 if len(found) else None
