"""The sound of a file, whole and in part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from extractors import MediaError
from extractors.listening import listen


def heard(path: Path, rate: int = 16000, **span: float) -> tuple[np.ndarray, float | None]:
    blocks: list[np.ndarray] = []
    end = listen(path, rate, blocks.append, **span)
    return np.concatenate([np.zeros(0, np.float32), *blocks]), end


def test_all_of_it_and_a_part(write_wav: Callable[..., Path]) -> None:
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, 5 * 16000).astype(np.float32)
    path = write_wav("a.wav", samples)
    whole, end = heard(path)
    assert end == pytest.approx(5.0)
    assert np.allclose(whole, samples, atol=1e-4)
    part, _ = heard(path, start_seconds=1.5, end_seconds=3.25)
    assert np.allclose(part, samples[24000:52000], atol=1e-4)


def test_without_sound_there_is_nothing(media: Callable[..., Path], numbered: Callable[..., list]) -> None:
    assert heard(media("silent.mp4", frames=numbered(5)))[1] is None


def test_a_beginning_behind_the_end_is_refused(write_wav: Callable[..., Path]) -> None:
    path = write_wav("a.wav", np.zeros(16000, np.float32))
    with pytest.raises(MediaError, match=r"the clip starts at 2 s, but the file ends at 1\.00 s: check the segment"):
        heard(path, start_seconds=2.0)
