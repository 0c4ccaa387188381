"""How much is decoded: counted in frames, of a file whose keyframes are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import extractors
from extractors.frame_sampler import FrameSampler
from extractors.media import MediaFile
from extractors.speech.waveform import Waveform

FPS, SECONDS, GOP = 25, 40, 50


class FarListening(Waveform):
    """Wants the sound of ten seconds to either side, as encoders that read in chunks do."""

    def __init__(self) -> None:
        super().__init__()
        self.context_seconds = 10.0


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`long_file(name)`: grey frames of which every 50th is a keyframe, and sound; written once."""
    from tests.extractors.conftest import tone, write_media

    folder, made = tmp_path_factory.mktemp("long"), dict[str, Path]()
    frames = [np.full((32, 48, 3), 7 * k % 256, np.uint8) for k in range(FPS * SECONDS)]
    keys = {"x264-params": f"keyint={GOP}:min-keyint={GOP}:scenecut=0:bframes=2"}

    def write(name: str) -> Path:
        if name not in made:
            sound = tone(SECONDS, rate=16000)
            made[name] = write_media(folder / name, frames=frames, samples=sound, rate=16000, video_options=keys)
        return made[name]

    return write


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The times of all frames that come out of the decoder."""
    times: list[float] = []
    feed = FrameSampler.feed

    def counting(self: FrameSampler, frame: Any, seconds: float | None) -> None:
        times.append(-1.0 if seconds is None else seconds)
        feed(self, frame, seconds)

    monkeypatch.setattr(FrameSampler, "feed", counting)
    return times


def looking(**audio: extractors.Extractor) -> dict[str, extractors.Extractor]:
    return {"vision": extractors.build("vision.colour", frames_per_second=25.0), **audio}


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("listener", [None, "speech.librosa", FarListening])
@pytest.mark.parametrize("start", [0.0, 1.9, 4.0, 31.3])
def test_a_segment_is_decoded_from_the_keyframe_before_it(
    long_file: Callable[[str], Path], decoded: list[float], name: str, listener: Any, start: float
) -> None:
    using = looking()
    if listener is not None:
        using["audio"] = listener() if callable(listener) else extractors.build(listener)
    found = extractors.extract(long_file(name), using, start_seconds=start, end_seconds=start + 3.0)
    assert len(found.sequences["vision"]) == 75
    keyframe = int(start * FPS) // GOP * GOP
    assert round(decoded[0] * FPS) == keyframe
    # The one after the last that is wanted tells how long that is shown.
    last_wanted = (start + 3.0) * FPS
    assert len(decoded) <= last_wanted - keyframe + 2
    assert sorted(set(decoded)) == decoded


def test_windows_decode_every_frame_once(long_file: Callable[[str], Path], decoded: list[float]) -> None:
    using = looking(audio=FarListening())
    windows = list(extractors.extract_windows(long_file("a.mp4"), using, extractors.Sliding(8.0, 2.0)))
    assert len(windows) == 17
    assert [round(seconds * FPS) for seconds in decoded] == list(range(FPS * SECONDS))


def test_clips_that_follow_each_other_cost_at_most_a_group_of_pictures_more(
    long_file: Callable[[str], Path], decoded: list[float]
) -> None:
    """Why a corpus's clips are extracted one by one: the same numbers whatever else is extracted, at this price."""
    bounds = np.linspace(0.0, SECONDS - 0.5, 12).tolist()
    spans = list(pairwise(bounds))
    for start, end in spans:
        extractors.extract(long_file("a.mp4"), looking(), start_seconds=start, end_seconds=end)
    shown = bounds[-1] * FPS
    assert shown <= len(decoded) <= shown + len(spans) * (GOP + 2)


PICTURES = {
    "a.avi": ("mpeg4", {"bf": "2"}),
    "b.avi": ("libx264", {"bf": "2", "g": "12"}),
    "a.mov": ("libx264", {"x264-params": "keyint=12:open-gop=1:bframes=3:scenecut=0"}),
    "a.mkv": ("libx265", {"preset": "ultrafast", "x265-params": "keyint=12:open-gop=1:bframes=3:log-level=0"}),
    "a.webm": ("libvpx-vp9", {"cpu-used": "8", "g": "12", "auto-alt-ref": "1", "lag-in-frames": "16"}),
    "a.mp4": ("libsvtav1", {"preset": "12", "g": "12"}),
    "a.ts": ("libx264", {"bf": "2"}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_the_same_wherever_decoding_begins(
    media: Callable[..., Path], numbered: Callable[..., Any], number_of: Callable[[Any], int], name: str
) -> None:
    """Open groups of pictures, frames out of order, hidden frames: a segment sees what the whole file shows there."""
    codec, options = PICTURES[name]
    frames = numbered(100, width=128, height=64)
    path = media(name, frames=frames, video_codec=codec, video_options=options)

    def seen(first: int, end: int | None) -> dict[int, int]:
        found: dict[int, int] = {}
        sampler = FrameSampler(
            25.0,
            320,
            lambda image, indices: found.update(dict.fromkeys(indices, number_of(image))),
            first_index=first,
            end_index=end,
        )
        with MediaFile(path) as file:
            file.decode(None, sampler, start_seconds=first / 25, pictures_from=sampler.first_seconds)
        return found

    whole = seen(0, None)
    assert sorted(set(whole.values())) == list(range(100))
    for first in range(0, 90, 7):
        assert seen(first, first + 9) == {k: whole[k] for k in range(first, first + 9) if k in whole}
