"""What is tried on a GPU: films that decode, and reasons that are FFmpeg's own."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch

from extractors import decoding_check
from extractors.decoding_check import CODECS, small_film, try_nvdec


@pytest.mark.parametrize("codec", CODECS)
def test_the_films_are_films_of_a_moving_square(codec: str) -> None:
    with av.open(small_film(codec)) as film:
        stream = film.streams.video[0]
        assert stream.codec_context.codec.name == codec
        frames = [frame.to_ndarray(format="gray").astype(int) for frame in film.decode(stream)]
    assert len(frames) == 4
    bright = [np.flatnonzero((frame > 130).any(axis=0)) for frame in frames]
    assert [abs(int(columns.min()) - 20 * k) <= 2 for k, columns in enumerate(bright)] == [True] * 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_driver_ffmpeg_says_what_it_lacks() -> None:
    assert "libcuda" in try_nvdec("h264")


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that opens, on which FFmpeg then decodes nothing."""
    monkeypatch.setattr(decoding_check, "why_not", lambda device: "")
    monkeypatch.setattr(decoding_check, "accelerator", lambda number, options: None)


@pytest.mark.usefixtures("refused")
def test_frames_from_the_cpu_are_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    assert try_nvdec("h264") == "its frames came as yuv420p"
    monkeypatch.setattr(decoding_check, "why_no_hardware", lambda stream: "no hardware decoder")
    assert try_nvdec("h264") == "no hardware decoder"


@pytest.mark.usefixtures("refused")
def test_what_ffmpeg_logs_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def accelerator(number: int, options: dict[str, object]) -> None:
        av.logging.log(av.logging.ERROR, "nvdec", "Cannot load libnvcuvid.so.1")

    monkeypatch.setattr(decoding_check, "accelerator", accelerator)
    assert try_nvdec("h264") == "Cannot load libnvcuvid.so.1"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_nvdec_decodes_h264() -> None:
    """Not run yet: written on a machine without a GPU. Every NVIDIA GPU with a video engine decodes H.264."""
    assert try_nvdec("h264") == ""
