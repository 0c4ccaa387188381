"""Who speaks: the face whose lips move with the sound."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

AROUND_SECONDS = 1.0
"""How far on either side of an instant lips and sound are compared: a few syllables, and not many turns."""

LAG_SECONDS = 0.2
"""By how much the lips may be ahead of the sound."""

HOLD_SECONDS = 2.0
"""How long a speaker is kept while nothing tells who speaks, as in a pause."""

BEFORE_SECONDS = AROUND_SECONDS + HOLD_SECONDS + 0.5
AFTER_SECONDS = AROUND_SECONDS + LAG_SECONDS + 0.1

_FITS = 0.4
_STILL_FITS = 0.2
_LEAD = 0.15
_LARGER = 1.25
_SILENCE_DB = -50.0
_RANGE_DB = 40.0
_EVEN_DB = 1.0
_STILL_LIPS = 0.012
_PRESENT = 0.5

Floats = NDArray[np.float64]


def synchrony(opening: Floats, levels: Floats, lags: int) -> float:
    """How well the opening of a mouth goes with the loudness of the sound, from -1 to 1.

    The largest, over lags of 0 to `lags` frames, of Pearson's correlation of `opening[t]` and `levels[t + lag]`, over
    the frames in which both are known. Levels more than 40 dB below the loudest are taken for that: what is below
    speech is noise. 0, which is no evidence either way, where the loudest is below -50 dB of full scale (silence),
    levels spread by less than 1 dB, the lips by less than 0.012 (a millimetre), or less than half of the frames are
    known.

    The correlation of a face's motion with the sound's energy is how Hershey and Movellan ("Audio Vision: Using
    audio-visual synchrony to locate sounds", NIPS 1999) find a speaker; mutual information of two Gaussians is a
    function of it alone, `-log(1 - r²) / 2`. Chandrasekaran et al. ("The natural statistics of audiovisual speech",
    PLoS Computational Biology 2009) measured that the opening of the mouth follows the envelope of speech, both between
    2 and 7 Hz, and that the mouth is ahead by 0.1 to 0.3 s. Deviations: one measure, the inner lips' distance on the
    frontal face, in place of pixels; the sign is kept, as lips that close when it gets loud do not speak.

    Args:
        opening: `(n,)`; NaN where the face is not seen.
        levels: `(n + lags,)` decibels relative to full scale; NaN where there is no sound.
        lags: how many frames the lips may be ahead.
    """
    loudest = np.max(levels, initial=-np.inf, where=np.isfinite(levels))
    if loudest < _SILENCE_DB:
        return 0.0
    loudness = np.maximum(levels, loudest - _RANGE_DB)
    return max(_correlation(opening, loudness[lag : lag + len(opening)]) for lag in range(lags + 1))


def _correlation(opening: Floats, loudness: Floats) -> float:
    both = np.isfinite(opening) & np.isfinite(loudness)
    if both.sum() < max(3.0, _PRESENT * len(opening)):
        return 0.0
    lips, sound = opening[both] - opening[both].mean(), loudness[both] - loudness[both].mean()
    spread, even = float(np.sqrt((lips**2).mean())), float(np.sqrt((sound**2).mean()))
    if spread < _STILL_LIPS or even < _EVEN_DB:
        return 0.0
    return float((lips * sound).mean() / (spread * even))


class SpeakerChoice:
    """Chooses one of the faces of each frame, frame by frame.

    - A face becomes the speaker when its `synchrony` is at least 0.4, and, where another one speaks, 0.15 more than
      that one's.
    - It stays the speaker while its own is at least 0.2, and for `HOLD_SECONDS` after that: nobody takes turns within
      a pause.
    - After that, or before anyone spoke, the largest face stands in, by its mean size around the frame; another one
      takes over only if it is a quarter larger.
    - While the speaker is not seen, nobody is chosen.

    Args:
        frames_per_second: how many frames follow each other in a second.
    """

    def __init__(self, frames_per_second: float) -> None:
        self._hold = round(HOLD_SECONDS * frames_per_second)
        self._speaker: int | None = None
        self._largest: int | None = None
        self._evident = 0

    def choose(
        self, frame: int, scores: Mapping[int, float], sizes: Mapping[int, float], seen: frozenset[int]
    ) -> tuple[int | None, bool]:
        """The track to take, and whether it is the speaker (True) or only stands in.

        Args:
            frame: its number.
            scores: synchrony of every track around the frame.
            sizes: their mean sizes there.
            seen: the tracks that are in the frame itself.
        """
        own = scores.get(self._speaker, 0.0) if self._speaker is not None else 0.0
        best = max(scores, key=lambda track: (scores[track], -track), default=None)
        needed = _FITS if own < _STILL_FITS else max(_FITS, own + _LEAD)
        if best is not None and best != self._speaker and scores[best] >= needed:
            self._speaker, own = best, scores[best]
        if own >= _STILL_FITS:
            self._evident = frame
        elif self._speaker is not None and frame - self._evident > self._hold:
            self._speaker = None
        if self._speaker is not None:
            return (self._speaker if self._speaker in seen else None), True
        return self._stand_in(sizes, seen), False

    def _stand_in(self, sizes: Mapping[int, float], seen: frozenset[int]) -> int | None:
        if not seen:
            return None
        largest = max(sorted(seen), key=lambda track: sizes[track])
        if self._largest not in seen or sizes[largest] >= _LARGER * sizes[self._largest]:
            self._largest = largest
        return self._largest
