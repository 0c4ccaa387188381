"""`TransformerVideo` on files: windows, segments, batches and pushes, against plain forward passes of transformers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import extractors
from extractors.vision.video_transformer import TransformerVideo

SECONDS = 3
RATE = 5.0  # frames a second that are looked at


@pytest.fixture(scope="module")
def clip(write_numbered: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds at 25 frames a second, each another picture."""
    return write_numbered(tmp_path_factory.mktemp("clip") / "clip.mp4", 25 * SECONDS)


def make(folder: Path, **changes: object) -> TransformerVideo:
    return TransformerVideo(model=str(folder), **{"frames_per_second": RATE, "device": "cpu", **changes})  # type: ignore[arg-type]


def see(path: Path, extractor: TransformerVideo, **span: float) -> extractors.FeatureSequence:
    return extractors.extract(path, {"vision": extractor}, **span).sequences["vision"]


class Sampled(extractors.VisionExtractor):
    """The sampled frames themselves."""

    def __init__(self) -> None:
        self.frames_per_second, self.max_side_pixels, self.names = RATE, 1280, ("none",)
        self.spec = extractors.ExtractorSpec("tests:Sampled", "numpy", "1", {})
        self.frames: dict[int, np.ndarray] = {}

    def stream(self) -> extractors.VisionStream:
        return _SampledStream(self)


class _SampledStream(extractors.VisionStream):
    def __init__(self, own: Sampled) -> None:
        self.own = own

    def push(self, image: np.ndarray, indices: list[int]) -> None:  # type: ignore[override]
        self.own.frames.update(dict.fromkeys(indices, image))

    def finish(self) -> extractors.FeatureSequence:
        return self.own.empty()


@pytest.mark.parametrize("kind", ["videomae", "timesformer"])
def test_equals_the_model_on_the_same_frames(video_encoders: Callable, clip: Path, kind: str) -> None:
    """Four frames every two of fifteen: the last window has three, the last of which stands in for the fourth."""
    folder = video_encoders(kind)
    sampled = Sampled()
    extractors.extract(clip, {"vision": sampled})
    assert sorted(sampled.frames) == list(range(15))
    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    expected = []
    for first in range(0, 14, 2):
        window = [Image.fromarray(sampled.frames[min(index, 14)]) for index in range(first, first + 4)]
        with torch.no_grad():
            states = model(**processor(window, return_tensors="pt")).last_hidden_state[0]
        expected.append((states[1:] if kind == "timesformer" else states).mean(0).numpy())
    found = see(clip, make(folder))
    assert np.allclose(found.values, np.stack(expected), atol=1e-5)
    assert np.allclose(found.times[:, 0], np.arange(0, 14, 2) / RATE)
    assert np.allclose(found.times[:, 1], [*np.arange(4, 15, 2) / RATE, 3.0])
    assert np.abs(found.values[0] - found.values[1]).max() > 0.01


@pytest.mark.parametrize("batch_size", [2, 3, 16])
def test_batches_change_nothing(video_encoders: Callable, clip: Path, batch_size: int) -> None:
    folder = video_encoders("timesformer")
    alone = see(clip, make(folder, batch_size=1, hop_frames=1))
    together = see(clip, make(folder, batch_size=batch_size, hop_frames=1))
    assert len(alone) == 14
    assert np.allclose(alone.values, together.values, atol=1e-5)
    assert np.array_equal(alone.times, together.times)


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.7, 2.1), (1.0, 1.3), (2.0, 3.0), (2.5, 9.0)])
def test_a_segment_has_the_steps_of_the_whole(video_encoders: Callable, clip: Path, start: float, end: float) -> None:
    extractor = make(video_encoders("videomae"), hop_frames=1)
    whole = see(clip, extractor).between(start, end)
    part = see(clip, extractor, start_seconds=start, end_seconds=end)
    assert len(part) > 0
    assert np.array_equal(part.times, whole.times)
    assert np.allclose(part.values, whole.values, atol=1e-5)


@pytest.mark.parametrize("hop_seconds", [0.5, 1.0])
def test_windows_of_one_pass_have_the_steps_of_the_whole(
    video_encoders: Callable, clip: Path, hop_seconds: float
) -> None:
    extractor = make(video_encoders("videomae"), hop_frames=1, batch_size=3)
    whole = see(clip, extractor)
    windows = list(extractors.extract_windows(clip, {"vision": extractor}, extractors.Sliding(1.0, hop_seconds)))
    assert windows[-1].end_seconds == pytest.approx(SECONDS, abs=0.05)
    for window in windows:
        found, wanted = window.extraction.sequences["vision"], whole.between(window.start_seconds, window.end_seconds)
        assert len(found) > 0
        assert np.array_equal(found.times, wanted.times)
        assert np.allclose(found.values, wanted.values, atol=1e-5)


def test_a_segment_that_no_window_has_its_middle_in(video_encoders: Callable, clip: Path) -> None:
    """Of windows of 0.8 s every 0.8 s, with middles at 0.4 and 1.2 s."""
    extractor = make(video_encoders("videomae"), hop_frames=4)
    found = extractors.extract(clip, {"vision": extractor}, start_seconds=0.5, end_seconds=1.1)
    assert len(found.sequences["vision"]) == 0
    assert "nothing found from 0.5 s to 1.1 s, but before or after" in found.missing["vision"]
    (window,) = extractors.extract_windows(clip, {"vision": extractor}, [(0.5, 1.1)])
    assert "no window of 4 frames" in window.extraction.missing["vision"]
    assert "one begins every 4 frames (0.8 s)" in window.extraction.missing["vision"]


def test_a_still_image_and_a_short_clip_give_one_step(
    video_encoders: Callable, write_numbered: Callable[..., Path], tmp_path: Path
) -> None:
    """Of one picture repeated; a clip of one sampled frame lasts as long as that."""
    extractor = make(video_encoders("videomae"))
    picture = np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    found = see(tmp_path / "a.png", extractor)
    encoder = extractor._encoder
    expected = encoder.encode([[encoder.prepare(picture)] * 4])
    assert np.allclose(found.values, expected, atol=1e-5)
    assert found.times.tolist() == [[0.0, 1.0]]
    assert see(write_numbered(tmp_path / "short.mp4", 4), extractor).times.tolist() == [[0.0, 0.2]]


def test_the_spec_knows_the_weights_and_not_the_path(
    save_video_encoder: Callable, video_encoders: Callable, tmp_path: Path
) -> None:
    own = extractors.build("vision.video_transformers", model=str(video_encoders("videomae")))
    copy = save_video_encoder("videomae", tmp_path / "moved")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved = extractors.rebuild(extractors.ExtractorSpec.from_json(own.spec.to_json()), model=str(copy))
    assert moved.spec == own.spec
    assert str(copy) not in str(moved.spec.parameters)
    assert own.spec.parameters["num_frames"] == 4  # also where it was the model's own
    (copy / "preprocessor_config.json").write_text("{}")
    with pytest.raises(extractors.ToolError, match=r"have the SHA-256 [0-9a-f]{64}, but [0-9a-f]{64} is required"):
        extractors.rebuild(own.spec, model=str(copy))


def test_what_changes_numbers_changes_the_fingerprint(video_encoders: Callable) -> None:
    folder = video_encoders("timesformer")
    usual = make(folder).spec
    for change in (
        {"pooling": "cls"}, {"num_frames": 2}, {"hop_frames": 1}, {"frames_per_second": 4.0}, {"max_side_pixels": 640},
    ):  # fmt: skip
        assert make(folder, **change).spec.fingerprint != usual.fingerprint
    assert make(folder, batch_size=9, num_frames=4, hop_frames=2).spec == usual


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames_per_second": 0}, "frames_per_second must be a number from 0.1 to 120, not 0"),
        ({"max_side_pixels": 10}, "max_side_pixels must be a number from 64 to 8192, not 10"),
        ({"batch_size": 0}, "batch_size must be a number from 1 to 4096, not 0"),
    ],
)
def test_parameters_are_checked(video_encoders: Callable, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(video_encoders("videomae"), **change)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
