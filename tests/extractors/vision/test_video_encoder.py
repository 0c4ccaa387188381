"""`VideoEncoder` on tiny encoders that are built and saved here, against plain forward passes of transformers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from extractors.errors import ToolError
from extractors.vision.transformer import TransformerVision
from extractors.vision.video_encoder import VideoEncoder, own_frames


def encoder(folder: Path, **changes: Any) -> VideoEncoder:
    given = {"revision": None, "weights_sha256": None, "pooling": "mean", "num_frames": None, "hop_frames": None}
    made = VideoEncoder(model=str(folder), device="cpu", **{**given, **changes})
    made.load()
    return made


@pytest.fixture(scope="module")
def windows() -> list[list[np.ndarray]]:
    """Three windows of four pictures of noise on gradients."""
    y, x = np.mgrid[0:40, 0:60] / 60.0
    draw = np.random.default_rng(0)
    pictures = [255 * np.stack([x, y, 1 - x], axis=2) + draw.normal(0, 60, (40, 60, 3)) for _ in range(12)]
    kept = [np.clip(picture, 0, 255).astype(np.uint8) for picture in pictures]
    return [kept[0:4], kept[4:8], kept[8:12]]


def forward(kind: str, folder: Path, window: list[np.ndarray]) -> Any:
    """The output of the whole model for one window, prepared by transformers' own processor."""
    if kind == "vjepa2":  # whose processor needs torchvision: test_video_processor shows that this one gives the same
        pictures = encoder(folder, num_frames=len(window))
        pixels = torch.stack([pictures.prepare(image) for image in window])[None]
    else:
        own = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        pixels = own([Image.fromarray(image) for image in window], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        return transformers.AutoModel.from_pretrained(folder).eval()(pixels)


def expected(kind: str, folder: Path, window: list[np.ndarray], pooling: str) -> np.ndarray:
    output = forward(kind, folder, window)
    if pooling == "pooled":
        return output.pooler_output[0].numpy()
    states = output.last_hidden_state[0].numpy()
    if pooling == "cls":
        return states[0]
    return states[1:].mean(axis=0) if kind in ("timesformer", "vivit") else states.mean(axis=0)


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [
        ("videomae", "mean"),
        ("videomae-classifier", "mean"),
        ("timesformer", "mean"),
        ("timesformer", "cls"),
        ("vivit", "mean"),
        ("vivit", "cls"),
        ("vivit", "pooled"),
        ("vjepa2", "mean"),
    ],
)
def test_equals_a_plain_forward_pass(
    video_encoders: Callable, windows: list[list[np.ndarray]], kind: str, pooling: str
) -> None:
    """Whether windows share a batch or not."""
    folder = video_encoders(kind)
    made = encoder(folder, pooling=pooling)
    prepared = [[made.prepare(image) for image in window] for window in windows]
    together, alone = made.encode(prepared), [made.encode([window])[0] for window in prepared]
    for window, one, other in zip(windows, together, alone, strict=True):
        wanted = expected(kind, folder, window, pooling)
        assert wanted.shape == (len(made.names),)
        assert np.allclose(one, wanted, atol=1e-5)
        assert np.allclose(other, wanted, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.05
    still = made.encode([[prepared[0][0]] * 4])[0]
    assert np.abs(still - together[0]).max() > 0.01  # every frame of a window counts
    turned = made.encode([prepared[0][::-1]])[0]
    assert np.abs(turned - together[0]).max() > 0.001  # and so does their order


@pytest.mark.parametrize("kind", ["timesformer", "vjepa2"])
def test_windows_of_another_length(video_encoders: Callable, windows: list[list[np.ndarray]], kind: str) -> None:
    folder = video_encoders(kind)
    made = encoder(folder, num_frames=2)
    assert made.windows.frames == 2
    assert made.windows.hop == 1
    found = made.encode([[made.prepare(image) for image in windows[0][:2]]])[0]
    assert np.allclose(found, expected(kind, folder, windows[0][:2], "mean"), atol=1e-5)


@pytest.mark.parametrize("kind", ["videomae", "vivit"])
def test_models_of_one_length_say_so(video_encoders: Callable, kind: str) -> None:
    with pytest.raises(ToolError, match=r"cannot encode windows of 8 frames .*is made for 4: leave num_frames out"):
        encoder(video_encoders(kind), num_frames=8)


def test_windows_are_half_of_one_apart_by_default(video_encoders: Callable) -> None:
    made = encoder(video_encoders("videomae"))
    assert (made.windows.frames, made.windows.hop) == (4, 2)
    assert made.parameters["num_frames"] == 4
    assert encoder(video_encoders("videomae"), hop_frames=3).windows.hop == 3


@pytest.mark.parametrize(
    ("kind", "pooling", "message"),
    [
        ("videomae", "cls", "has no class token with pooling='cls': set pooling to another of"),
        ("vjepa2", "cls", "has no class token"),
        ("timesformer", "pooled", "has no pooled output with pooling='pooled'"),
    ],
)
def test_what_a_model_cannot_give(video_encoders: Callable, kind: str, pooling: str, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        encoder(video_encoders(kind), pooling=pooling)


def test_a_pooling_layer_that_is_not_in_the_checkpoint(save_video_encoder: Callable, tmp_path: Path) -> None:
    folder = save_video_encoder("vivit", tmp_path / "m", pooler=False)
    with pytest.raises(ToolError, match=r"its weights lack pooler.*would be random.*set pooling to another of"):
        encoder(folder, pooling="pooled")
    encoder(folder, pooling="cls")


def test_v_jepa_2s_predictor_is_not_needed(
    video_encoders: Callable, tmp_path: Path, windows: list[list[np.ndarray]]
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(video_encoders("vjepa2"), folder)
    model = transformers.VJEPA2Model.from_pretrained(folder)
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("predictor.")}
    model.save_pretrained(folder, state_dict=state)
    made, whole = encoder(folder), encoder(video_encoders("vjepa2"))
    prepared = [[made.prepare(image) for image in windows[0]]]
    assert np.array_equal(made.encode(prepared), whole.encode(prepared))
    del state["encoder.layer.1.mlp.fc1.weight"]
    model.save_pretrained(folder, state_dict=state)
    with pytest.raises(ToolError, match=r"its weights lack encoder\.layer\.1\.mlp\.fc1\.weight"):
        encoder(folder)


def test_image_and_video_models_point_to_each_other(video_encoders: Callable, tmp_path: Path) -> None:
    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    config.save_pretrained(tmp_path)
    assert own_frames(config) is None
    with pytest.raises(ToolError, match=r"\(ViTConfig\) is not that of a video encoder.*go with vision\.transformers"):
        encoder(tmp_path)
    with pytest.raises(ToolError, match=r"is a video encoder \(VideoMAEConfig\): use vision\.video_transformers"):
        TransformerVision(model=str(video_encoders("videomae")))
    assert own_frames(SimpleNamespace(frames_per_clip=64)) == 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling": "max"}, r"pooling must be one of \('cls', 'mean', 'pooled'\), not 'max'"),
        ({"num_frames": 0}, "num_frames must be a number from 1 to 1024, not 0"),
        ({"num_frames": 2.5}, "num_frames must be a whole number, not 2.5"),
        ({"hop_frames": 5}, "hop_frames must be a number from 1 to 4, not 5"),
    ],
)
def test_parameters_are_checked(video_encoders: Callable, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder(video_encoders("videomae"), **change)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
