"""`transcribe` on files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import extractors
from extractors.transcript import Transcript

Spoken = Callable[..., np.ndarray]


@pytest.mark.slow
def test_a_file_and_a_part_of_it(whisper_folder: Path, spoken: Spoken, write_wav: Callable[..., Path]) -> None:
    path = write_wav("a.wav", spoken([(" yes", 1.0), (" no", 4.0), (" maybe", 8.0)], 10.0))
    found = extractors.transcribe(path, str(whisper_folder), language="en")
    assert [one.text for one in found.segments] == ["yes", "no", "maybe"]
    built = extractors.Whisper(model=str(whisper_folder), language="en")
    (middle,) = extractors.transcribe(path, built, start_seconds=3.0, end_seconds=6.0).segments
    assert middle.text == "no"
    assert 3.5 < middle.start_seconds < middle.end_seconds < 4.6
    with pytest.raises(ValueError, match="language: give options to Whisper, which is built already"):
        extractors.transcribe(path, built, language="en")


@pytest.mark.slow
def test_a_film_without_sound_says_nothing(
    whisper_folder: Path, media: Callable[..., Path], numbered: Callable[..., list]
) -> None:
    found = extractors.transcribe(media("a.mp4", frames=numbered(5)), str(whisper_folder), language="en")
    assert found == Transcript((), "en")
    with pytest.raises(extractors.MediaError, match="No such file"):
        extractors.transcribe("nothing.wav", str(whisper_folder))


def test_an_unreachable_hub_says_what_to_place_where() -> None:
    with pytest.raises(extractors.ToolError, match=r"openai/whisper-none: .*put them in one folder and give its path"):
        extractors.transcribe("a.wav", "openai/whisper-none")
