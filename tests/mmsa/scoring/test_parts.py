from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extractors import Extractor, Transcript, extract
from extractors.transcript import Segment
from mmsa.scoring.parts import Ending, Part, read_parts
from mmsa.scoring.predictor import TOGETHER
from mmsa.scoring.timeline import Timeline

Wav = Callable[[Path, list[float]], Path]


@pytest.fixture
def extractors(small: Any) -> dict[str, Extractor]:
    return {"audio": small.Loudness(), "text": small.WordLengths()}


@pytest.fixture
def sound(tmp_path: Path, write_wav: Wav) -> Path:
    """Ten seconds."""
    return write_wav(tmp_path / "talk.wav", [tenth % 8 / 16 for tenth in range(100)])


def test_a_clip_is_one_stretch(extractors: dict[str, Extractor], sound: Path) -> None:
    part, ending = read_parts(sound, extractors, Transcript.of("so it goes"), Timeline(), (2.0, 5.0))
    assert isinstance(part, Part)
    (stretch,) = part.stretches
    whole = extract(sound, extractors, transcript="so it goes", start_seconds=2.0, end_seconds=5.0)
    assert (stretch.number, stretch.start_seconds, stretch.end_seconds) == (0, 2.0, 5.0)
    assert stretch.text == "so it goes"
    for key, sequence in whole.sequences.items():
        np.testing.assert_array_equal(stretch.extraction.sequences[key].values, sequence.values)
    assert ending == Ending(3.0, (), still=False)


def test_windows_come_in_parts_of_bounded_size_each_once_and_in_order(
    extractors: dict[str, Extractor], sound: Path
) -> None:
    """Half a second every quarter, until one reaches the end to a quarter second: number 37, from 9.25 to 9.75."""
    *parts, ending = read_parts(sound, extractors, Transcript(), Timeline(0.5, 0.25))
    assert [len(part.stretches) for part in parts] == [TOGETHER, TOGETHER, 38 - 2 * TOGETHER]
    stretches = [stretch for part in parts for stretch in part.stretches]
    assert [stretch.number for stretch in stretches] == list(range(38))
    assert [stretch.start_seconds for stretch in stretches] == [number / 4 for number in range(38)]
    assert {part.announced_seconds for part in parts} == {10.0}
    assert ending == Ending(10.0, (), still=False)


def test_turns_carry_their_words_and_speaker_and_words_without_times_belong_to_none(
    extractors: dict[str, Extractor], sound: Path
) -> None:
    said = Transcript((Segment("hello", 1.0, 2.0, "Ann"), Segment("yes", 4.0, 5.5, "Bo")))
    part, _ = read_parts(sound, extractors, said, Timeline(segments="speakers"))
    assert [(one.speaker, one.text, one.start_seconds, one.end_seconds) for one in part.stretches] == [
        ("Ann", "hello", 1.0, 2.0),
        ("Bo", "yes", 4.0, 5.5),
    ]
    first, *_ = read_parts(sound, extractors, Transcript.of("hello"), Timeline(5.0))
    assert {one.extraction.missing["text"] for one in first.stretches} == {"the transcript has no times"}


def test_a_still_image_is_one_stretch_whatever_the_timeline(small: Any, tmp_path: Path) -> None:
    import cv2

    picture = tmp_path / "face.png"
    cv2.imwrite(str(picture), np.full((32, 32, 3), 128, np.uint8))
    part, ending = read_parts(picture, {"vision": small.Brightness()}, Transcript(), Timeline(5.0))
    assert len(part.stretches) == 1
    assert part.stretches[0].extraction.sequences["vision"].values == pytest.approx(128)
    assert ending.still
    assert ending.duration_seconds == 0


def test_nothing_of_the_model_is_loaded_to_read(tmp_path: Path) -> None:
    import subprocess

    code = "import sys, mmsa.scoring.parts; print('torch' in sys.modules, 'ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
