"""What is said of how a file was read: each modality is told what concerns it, whatever else is read with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

import extractors
from tests.extractors.conftest import Listener
from tests.extractors.test_extraction import Brightness

Make = Callable[..., Path]
SPANS = ((None, None), (0.0, 3.0), (2.0, 8.0), (2.5, 4.0), (6.0, 6.5), (1.0, 30.0))


def hole(path: Path) -> None:
    """Zeros in the middle tenth."""
    data = bytearray(path.read_bytes())
    first, after = len(data) * 45 // 100, len(data) * 55 // 100
    data[first:after] = bytes(after - first)
    path.write_bytes(data)


def cut(path: Path) -> None:
    """The last third is gone."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def listener() -> Listener:
    return Listener()


@pytest.fixture
def ten_seconds(media: Make, numbered: Callable) -> Callable[[str], Path]:
    """Moving pictures and noise, so that both streams have large packets all the way."""

    def make(name: str) -> Path:
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, 480000).astype(np.float32)
        return media(
            name, frames=numbered(250), samples=noise, options={"movflags": "faststart"} if "mp4" in name else {}
        )

    return make


@pytest.mark.parametrize("damage", [hole, cut])
@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("watcher", [Brightness, listener])
def test_the_notes_on_a_modality_are_those_that_it_has_alone(
    ten_seconds: Callable[[str], Path], kind: str, damage: Callable[[Path], None], watcher: Callable
) -> None:
    path = ten_seconds(f"a.{kind}")
    damage(path)
    using = {"audio": extractors.build("speech.waveform"), "vision": watcher()}
    for start, end in SPANS:
        both = extractors.extract(path, using, start_seconds=start, end_seconds=end)
        alone = {
            key: extractors.extract(path, {key: one}, start_seconds=start, end_seconds=end).notes
            for key, one in using.items()
        }
        assert both.notes_by_modality == {key: notes for key, notes in alone.items() if notes}, (start, end)
        assert set(both.notes) == {note for notes in alone.values() for note in notes}
        if (start, end) == (None, None) and kind == "mp4":  # its index tells where every packet was
            assert both.notes_by_modality.keys() == {"audio", "vision"}


def broken_packets(path: Path, kind: str) -> int:
    """How many packets of a stream FFmpeg refuses when it is asked for nothing else."""
    count = 0
    with av.open(str(path)) as file:
        stream = next(one for one in file.streams if one.type == kind)
        for packet in file.demux(stream):
            try:
                packet.decode()
            except av.error.FFmpegError:
                count += 1
    return count


def test_broken_packets_are_told_to_whom_they_concern(ten_seconds: Callable[[str], Path]) -> None:
    path = ten_seconds("a.mp4")
    hole(path)
    sound, pictures = broken_packets(path, "audio"), broken_packets(path, "video")
    assert min(sound, pictures) > 1
    assert sound != pictures
    using = {"audio": extractors.build("speech.waveform"), "vision": Brightness(25.0)}
    notes = extractors.extract(path, using).notes_by_modality
    assert f"{sound} packets of the audio stream could not be decoded and were left out" in notes["audio"]
    assert f"{pictures} packets of the video stream could not be decoded and were left out" in notes["vision"]
    assert not any("video" in note for note in notes["audio"])
    assert not any("audio" in note for note in notes["vision"])
    # The hole lies between 3 and 7 s: what comes before and after is whole.
    for start, end in ((0.0, 3.0), (7.5, 9.0)):
        assert extractors.extract(path, using, start_seconds=start, end_seconds=end).notes == ()


def test_a_stream_that_ends_early_costs_the_other_no_word(media: Make, numbered: Callable, make_tone: Callable) -> None:
    path = media("a.mkv", frames=numbered(20), samples=make_tone(6.0), audio_codec="pcm_s16le")  # 0.8 s and 6 s
    using = {"audio": extractors.build("speech.waveform"), "vision": Brightness()}
    found = extractors.extract(path, using, start_seconds=0.0, end_seconds=2.0)
    assert found.notes_by_modality == {"vision": ("the video stream ends after 0.8 s, though 6.0 s are announced",)}
    late = extractors.extract(path, using, start_seconds=0.0, end_seconds=8.0).notes_by_modality["audio"]
    assert late == ("the clip ends at 8 s, but its audio stream at 6.00 s",)


def test_images_left_out_are_a_note_on_what_looks_at_them(tmp_path: Path) -> None:
    from PIL import Image

    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(good)
    bad.write_bytes(good.read_bytes()[:40])
    using = {"text": extractors.build("text.lexical"), "vision": Brightness()}
    found = extractors.extract([good, bad], using, transcript="so good")
    assert list(found.notes_by_modality) == ["vision"]
    assert found.notes == found.notes_by_modality["vision"]
    assert "bad.png" in found.notes[0]
