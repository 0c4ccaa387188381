"""What the benchmarks of scoring share: long files made of the demo corpus's clips, and a model trained on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from extraction_media import repeat

from mmsa.corpora import load_corpus
from mmsa.corpora.clip import Clip


def test_clips() -> list[Clip]:
    """The demo corpus's test clips that have a picture, sound and words; rendered on first use."""
    clips = load_corpus("demo").split("test")
    return [clip for clip in clips if clip.media is not None and clip.transcript and _streams(clip.media) == 2]


def _streams(path: Path) -> int:
    with av.open(str(path)) as media:
        return len(media.streams.video) + len(media.streams.audio)


def loop(clip: Clip, target: Path, seconds: float) -> float:
    """Repeat a clip, packet by packet, until the file is at least so long; its words lie beside it as subtitles.

    Returns:
        How long it is.
    """
    assert clip.media is not None
    spans = repeat(clip.media, target, seconds)
    lines = [f"{k}\n{_clock(start)} --> {_clock(end)}\n{clip.transcript}\n" for k, (start, end) in enumerate(spans, 1)]
    target.with_suffix(".srt").write_text("\n".join(lines), encoding="utf-8")
    return float(spans[-1][1])


def _clock(seconds: Fraction) -> str:
    millis = int(seconds * 1000)
    return f"{millis // 3600000:02}:{millis // 60000 % 60:02}:{millis // 1000 % 60:02},{millis % 1000:03}"


def long_files(folder: Path, number: int, seconds: float) -> Iterator[tuple[Path, float]]:
    """Files of different people, each of at least so many seconds, and how long each is."""
    clips = test_clips()
    for index in range(number):
        path = folder / f"talk{index:02}.mp4"
        yield path, loop(clips[index * 7 % len(clips)], path, seconds)


def bundle_of(run: str | None, folder: Path) -> Path:
    """The bundle of a run, or of one that is trained on the demo corpus now."""
    from mmsa.tracking import find_bundle

    if run is not None:
        return find_bundle(run).resolve()
    print("training on the demo corpus …", flush=True)
    words = ["train", "--fusion", "late", "--device", "cpu", "--set", "epochs=10"]
    subprocess.run([sys.executable, "-m", "mmsa", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (found,) = folder.glob("mlruns/artifacts/*/artifacts/bundle")
    return found
