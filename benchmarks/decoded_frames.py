"""How many frames are decoded for clips of one long file: each alone, and all in one pass.

```sh
python benchmarks/decoded_frames.py
```

Counted, not timed: H.264 of 60 s at 25 frames a second, with a keyframe every so many frames. `one segment` lies at
50 s and shows 75 frames; `each alone` and `one pass` are clips of 2 to 6 s that follow each other, as a corpus cuts a
talk. The listener is librosa's descriptors (0.12 s of sound around a step), or one that wants 15 s to either side, as
encoders that read in chunks do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from media_files import FPS, RATE, Picture, Sound, Source, write

import extractors
from extractors.frame_sampler import FrameSampler
from extractors.speech.waveform import Waveform

SECONDS = 60


class FarListening(Waveform):
    """Wants the sound of 15 s around a step."""

    def __init__(self) -> None:
        super().__init__()
        self.context_seconds = 15.0


class Counter:
    """Counts the frames that come out of the decoder."""

    def __init__(self) -> None:
        self.frames, feed = 0, FrameSampler.feed

        def counting(sampler: FrameSampler, frame: Any, seconds: float | None) -> None:
            self.frames += 1
            feed(sampler, frame, seconds)

        FrameSampler.feed = counting  # type: ignore[method-assign]

    def take(self) -> int:
        """How many since the last call."""
        found, self.frames = self.frames, 0
        return found


def rows() -> Iterator[tuple[object, ...]]:
    """Keyframe distance, listener, frames for one segment, shown by the clips, for each alone, in one pass."""
    source = Source(
        [np.full((32, 48, 3), 7 * k % 256, np.uint8) for k in range(FPS * SECONDS)],
        np.sin(np.arange(RATE * SECONDS) / 10).astype(np.float32) / 2,
    )
    bounds = np.cumsum([0.0, *np.random.default_rng(0).uniform(2.0, 6.0, 14)])
    spans = list(pairwise(bounds[bounds < SECONDS].tolist()))
    counter = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for distance in (25, 50, 250):
            path = Path(folder) / f"{distance}.mp4"
            keys = {"preset": "veryfast", "x264-params": f"keyint={distance}:min-keyint={distance}:scenecut=0"}
            write(path, source, Picture(options=keys), Sound())
            for name, listener in (("librosa", extractors.build("speech.librosa")), ("15 s", FarListening())):
                using = {"audio": listener, "vision": extractors.build("vision.colour", frames_per_second=25.0)}
                extractors.extract(path, using, start_seconds=50.0, end_seconds=53.0)
                one = counter.take()
                for start, end in spans:
                    extractors.extract(path, using, start_seconds=start, end_seconds=end)
                alone = counter.take()
                list(extractors.extract_windows(path, using, spans))
                yield distance, name, one, round(spans[-1][1] * FPS), alone, counter.take()


def main() -> None:
    """Print the table."""
    print("| keyframe every | listener | one segment | shown by the clips | each alone | one pass |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows():
        print("| " + " | ".join(map(str, row)) + " |")


if __name__ == "__main__":
    main()
