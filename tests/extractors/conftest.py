"""Media made in the tests: frames that carry their number, tones of known pitch, a real face."""

from __future__ import annotations

import wave
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

BITS = 8


def numbered_frame(number: int, width: int = 320, height: int = 180) -> np.ndarray:
    """An RGB frame whose vertical bars spell `number` in binary, least significant bit on the left."""
    image = np.zeros((height, width, 3), np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            image[:, width * bit // BITS : width * (bit + 1) // BITS] = 255
    return image


def read_number(image: np.ndarray) -> int:
    """The number that `numbered_frame` wrote, from a frame that was compressed and scaled."""
    width = image.shape[1]
    middle = image[image.shape[0] // 2].mean(axis=-1)
    return sum(int(middle[width * (2 * bit + 1) // (2 * BITS)] > 127) << bit for bit in range(BITS))


def tone(seconds: float, rate: int = 48000, hz: float = 200.0, level: float = 0.3) -> np.ndarray:
    """A tone with harmonics, like a voice: `(N,)`."""
    t = np.arange(round(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 6))
    return (level * wave / 2).astype(np.float32)


def write_media(
    path: Path,
    *,
    frames: Sequence[np.ndarray] | None = None,
    frame_seconds: Sequence[float] | None = None,
    fps: int = 25,
    samples: np.ndarray | None = None,
    rate: int = 48000,
    audio_start: float = 0.0,
    video_codec: str = "libx264",
    audio_codec: str = "aac",
    gop: int = 12,
    options: dict[str, str] | None = None,
    video_options: dict[str, str] | None = None,
) -> Path:
    """Write a media file.

    Args:
        frames: RGB frames; None leaves the picture out.
        frame_seconds: when each frame is shown; None is `fps` per second.
        samples: `(N,)` mono or `(2, N)` stereo; None leaves the sound out.
        audio_start: timestamp of the first sample.
        gop: frames from keyframe to keyframe.
        options: of the container.
        video_options: of the picture's encoder.
    """
    import av

    with av.open(str(path), "w", options=options or {}) as out:
        packets = []
        if frames is not None:
            stream = out.add_stream(video_codec, rate=fps, options=video_options or {})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.gop_size = gop
            base = Fraction(1, fps if path.suffix == ".avi" else 60000)
            stream.time_base = stream.codec_context.time_base = base
            seconds = frame_seconds or [i / fps for i in range(len(frames))]
            for image, at in zip(frames, seconds, strict=True):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = round(at / base), base
                packets += stream.encode(frame)
            packets += stream.encode(None)
        if samples is not None:
            channels = np.atleast_2d(samples)
            layout = "mono" if len(channels) == 1 else "stereo"
            sound = out.add_stream(audio_codec, rate=rate, layout=layout)
            offset = round(audio_start * rate)
            for first in range(0, channels.shape[1], rate):
                block = np.ascontiguousarray(channels[:, first : first + rate])
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, first + offset, Fraction(1, rate)
                packets += sound.encode(frame)
            packets += sound.encode(None)
        for packet in sorted((p for p in packets if p.dts is not None), key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return path


@pytest.fixture
def media(tmp_path: Path) -> Callable[..., Path]:
    """`media(name, **what)`: writes `name` in a temporary folder, see `write_media`."""
    return lambda name, **what: write_media(tmp_path / name, **what)


@pytest.fixture
def write_wav(tmp_path: Path) -> Callable[..., Path]:
    """`write_wav(name, samples)`: a WAV file of 16 bit at 16 kHz in a temporary folder."""

    def write(name: str, samples: np.ndarray, rate: int = 16000) -> Path:
        with wave.open(str(tmp_path / name), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            file.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        return tmp_path / name

    return write


@pytest.fixture
def make_tone() -> Callable[..., np.ndarray]:
    """See `tone`."""
    return tone


@pytest.fixture
def numbered() -> Callable[..., list[np.ndarray]]:
    """`numbered(count)`: that many numbered frames."""
    return lambda count, **size: [numbered_frame(i, **size) for i in range(count)]


@pytest.fixture
def number_of() -> Callable[[np.ndarray], int]:
    """See `read_number`."""
    return read_number


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A photograph of a smiling astronaut, 512 × 512 RGB."""
    return pytest.importorskip("skimage.data").astronaut()


@pytest.fixture(scope="session")
def face_video(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray) -> Path:
    """Three seconds: the astronaut for one, nobody for one, the astronaut for one; a tone of 200 Hz throughout."""
    folder = tmp_path_factory.mktemp("face")
    empty = np.full_like(astronaut, 90)
    frames = [astronaut] * 25 + [empty] * 25 + [astronaut] * 25
    return write_media(folder / "face.mp4", frames=frames, samples=np.stack([tone(3.0)] * 2))
