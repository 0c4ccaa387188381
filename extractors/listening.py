"""`listen`: the sound of a file, or a part of it, in blocks; memory does not grow with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extractors.audio_track import AudioTrack
from extractors.errors import MediaError
from extractors.media import MediaFile


def listen(
    path: str | Path,
    sample_rate_hz: int,
    push: Callable[[NDArray[np.float32]], None],
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> float | None:
    """Decode a file's sound.

    Args:
        path: the media file.
        sample_rate_hz: what it is resampled to.
        push: takes blocks `(N,)` of at most a few seconds, mono; the first one begins at `start_seconds`.
        start_seconds: where to begin; None is the beginning.
        end_seconds: where to stop; None is the end.

    Returns:
        Where the sound ends, in seconds of the media's clock; None where there is none or it cannot be decoded.

    Raises:
        MediaError: the file cannot be used, or ends before `start_seconds`.
    """
    start = start_seconds or 0.0
    with MediaFile(path) as media:
        if media.info.duration_seconds is not None and start >= media.info.duration_seconds:
            raise MediaError(
                f"{media.path}: the clip starts at {start:g} s, but the file ends at {media.info.duration_seconds:.2f} "
                "s: check the segment's times"
            )
        if media.info.audio is None or not media.info.audio.codec:
            return None
        track = AudioTrack(
            sample_rate_hz,
            push,
            first_sample=math.floor(start * sample_rate_hz),
            end_sample=None if end_seconds is None else math.ceil(end_seconds * sample_rate_hz),
            latest_seconds=media.latest_seconds,
        )
        media.decode(track, None, start_seconds=start)
        return track.end_seconds if track.frames else None
