"""Media made in the tests: frames that carry their number, tones of known pitch, a real face."""

from __future__ import annotations

import json
import math
import wave
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from extractors.base import VisionExtractor, VisionStream
from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec

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


def _save_video_encoder(kind: str, folder: Path, *, preprocessor: dict | None = None, pooler: bool = True) -> Path:
    import torch
    import transformers as t

    small = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
        "initializer_range": 0.5,
    }  # fmt: skip
    torch.manual_seed(sum(map(ord, kind)))
    if kind == "videomae":
        config = t.VideoMAEConfig(**small, image_size=32, patch_size=16, num_frames=4, use_mean_pooling=False)
        model = t.VideoMAEModel(config)
    elif kind == "videomae-classifier":
        model = t.VideoMAEForVideoClassification(t.VideoMAEConfig(**small, image_size=32, patch_size=16, num_frames=4))
    elif kind == "timesformer":
        model = t.TimesformerModel(t.TimesformerConfig(**small, image_size=32, patch_size=16, num_frames=4))
    elif kind == "vivit":
        config = t.VivitConfig(**small, image_size=32, num_frames=4, tubelet_size=[2, 16, 16])
        model = t.VivitModel(config, add_pooling_layer=pooler)
    else:
        assert kind == "vjepa2"
        small["mlp_ratio"] = 1.5
        config = t.VJEPA2Config(
            **small, crop_size=32, patch_size=16, frames_per_clip=4, pred_hidden_size=16, pred_num_attention_heads=2,
            pred_num_hidden_layers=1,
        )  # fmt: skip
        model = t.VJEPA2Model(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim == 1:
                weights.add_(0.3 * torch.randn_like(weights))  # normalisations and biases that can be told from none
            elif not weights.any():
                weights.normal_(0.0, 0.5)  # positions and class tokens, which start at 0
    model.save_pretrained(folder)
    name = "video_preprocessor_config.json" if kind == "vjepa2" else "preprocessor_config.json"
    (folder / name).write_text(json.dumps(preprocessor or VIDEO_PREPROCESSORS[kind.partition("-")[0]]))
    return folder


_VIDEO = {
    "do_resize": True, "size": {"shortest_edge": 36}, "resample": 2, "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32}, "do_rescale": True, "do_normalize": True,
    "image_mean": [0.48, 0.45, 0.40], "image_std": [0.27, 0.26, 0.28],
}  # fmt: skip
VIDEO_PREPROCESSORS = {
    "videomae": {**_VIDEO, "rescale_factor": 1 / 255, "image_processor_type": "VideoMAEImageProcessor"},
    "timesformer": {**_VIDEO, "rescale_factor": 1 / 255, "feature_extractor_type": "VideoMAEFeatureExtractor"},
    "vivit": {**_VIDEO, "rescale_factor": 1 / 127.5, "offset": True, "image_processor_type": "VivitImageProcessor"},
    "vjepa2": {**_VIDEO, "rescale_factor": 1 / 255, "video_processor_type": "VJEPA2VideoProcessor"},
}


@pytest.fixture(scope="session")
def save_video_encoder() -> Callable[..., Path]:
    """`save_video_encoder(kind, folder)`: a tiny video encoder for four frames of 32 by 32, with random weights.

    Kinds are the keys of `VIDEO_PREPROCESSORS`, and `videomae-classifier`. `preprocessor` replaces its settings;
    without `pooler` a ViViT is saved as those trained to classify are.
    """
    return _save_video_encoder


@pytest.fixture(scope="session")
def video_encoders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`video_encoders(kind)`: where such an encoder is saved, made once."""

    @cache
    def folder(kind: str) -> Path:
        return _save_video_encoder(kind, tmp_path_factory.mktemp(kind) / "model")

    return folder


@pytest.fixture(scope="session")
def write_numbered() -> Callable[..., Path]:
    """`write_numbered(path, count)`: a video of numbered frames at 25 a second."""
    return lambda path, count: write_media(path, frames=[numbered_frame(i) for i in range(count)])


class Listener(VisionExtractor):
    """Five steps a second: the root mean square of the sound within a tenth of a second of each sampled frame.

    Args:
        rolls: whether its streams serve windows.
        only_before: no step from this second on.
    """

    def __init__(self, *, rolls: bool = False, only_before: float = math.inf) -> None:
        self.frames_per_second, self.max_side_pixels = 5.0, 64
        self.listens_at_hz, self.before_seconds, self.after_seconds = 8000, 1.0, 0.5
        self.names = ("level",)
        self.spec = ExtractorSpec("tests:Listener", "numpy", "1", {})
        self.rolling = rolls  # type: ignore[misc]
        self.only_before = only_before
        self.streams: list[ListenerStream] = []

    def stream(self) -> VisionStream:
        self.streams.append(ListenerStream(self))
        return self.streams[-1]


class ListenerStream(VisionStream):
    def __init__(self, extractor: Listener) -> None:
        self._extractor = extractor
        self.indices: list[int] = []
        self.first: int | None = None
        self.sound = np.zeros(0, np.float32)
        self.ended = False
        self.extents: list[tuple[float, float]] = []
        self.forgotten = 0.0

    def push(self, image: np.ndarray, indices: Sequence[int]) -> None:
        self.indices += indices

    def listen(self, samples: np.ndarray, first_sample: int) -> None:
        self.first = first_sample if self.first is None else self.first
        assert first_sample == self.first + len(self.sound)
        self.sound = np.concatenate([self.sound, samples])

    def no_more_sound(self) -> None:
        self.ended = True

    def finish(self) -> FeatureSequence:
        return self._steps(0.0, math.inf)

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        heard = ((self.first or 0) + len(self.sound)) / 8000
        self.extents.append((self.indices[-1] / 5 - end_seconds, heard - end_seconds))
        return self._steps(start_seconds, end_seconds), "nothing"

    def forget(self, before_seconds: float) -> None:
        self.forgotten = before_seconds

    def notes(self, start_seconds: float = 0.0, end_seconds: float = math.inf) -> tuple[str, ...]:
        return (f"asked about {start_seconds:g} to {end_seconds:g}",)

    def _steps(self, start: float, end: float) -> FeatureSequence:
        mine = [k for k in self.indices if start <= (k + 0.5) / 5 < end and k / 5 < self._extractor.only_before]
        if not mine:
            return self._extractor.empty()
        levels = []
        for k in mine:
            low, high = (round((k / 5 + away) * 8000) - (self.first or 0) for away in (-0.1, 0.1))
            part = self.sound[max(0, low) : max(0, high)]
            levels.append([np.sqrt(np.mean(part**2)) if len(part) else 0.0])
        at = np.array(mine, np.float64)
        return FeatureSequence(np.array(levels, np.float32), np.stack([at, at + 1], axis=1) / 5, ("level",))


@pytest.fixture
def rising(media: Callable[..., Path]) -> Path:
    """Ten seconds of grey, and a tone whose amplitude is a twentieth in the first second, two in the next and so on."""
    samples = np.sin(2 * np.pi * 200 * np.arange(160_000) / 16_000) * (1 + np.arange(160_000) // 16_000) / 20
    frames = [np.full((48, 64, 3), 90, np.uint8)] * 100
    return media("rising.mp4", frames=frames, fps=10, samples=samples.astype(np.float32), rate=16_000)
