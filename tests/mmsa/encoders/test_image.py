from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extractors.vision.pixels import Pixels
from extractors.vision.transformer import TransformerVision
from fusion import ModalitySequence
from mmsa.encoders import build_encoder, encoder
from mmsa.encoders.config import EncoderConfig
from mmsa.encoders.encoder import Encoder
from mmsa.encoders.spec import encoder_spec
from mmsa.errors import UsageError


def built(folder: Path, **options: Any) -> Encoder:
    return build_encoder(encoder_spec("vision", EncoderConfig(model=str(folder), tune="frozen", **options)))


def watched(extractor: Any, pictures: list[np.ndarray]) -> torch.Tensor:
    stream = extractor.stream()
    for index, picture in enumerate(pictures):
        stream.push(picture, [index])
    return torch.from_numpy(stream.finish().values)


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (40, 56, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_frozen_is_what_the_extractor_makes(vit: Path, pooling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "AT_ONCE", 2)  # in parts, too
    clips = [pictures(3), pictures(1, 1), pictures(2, 2)]
    expected = [watched(TransformerVision(model=str(vit), pooling=pooling), clip) for clip in clips]
    raw = ModalitySequence.pad([watched(Pixels(model=str(vit)), clip) for clip in clips])
    with torch.no_grad():
        found = built(vit, pooling=pooling)(raw)
    assert torch.equal(found.mask, raw.mask)
    for row, own in enumerate(expected):
        torch.testing.assert_close(found.values[row, : len(own)], own, atol=1e-5, rtol=0)


def test_a_picture_costs_its_patches(vit: Path) -> None:
    """Two layers, four patches of 8 by 8."""
    assert built(vit).spec.step_cost == 8


def test_no_class_token(tmp_path: Path) -> None:
    import transformers

    config = transformers.ConvNextConfig(hidden_sizes=[8, 12], depths=[1, 1], num_stages=2, patch_size=4)
    transformers.ConvNextModel(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"no class token: set encoders\.vision\.pooling=mean"):
        built(tmp_path)
    raw = ModalitySequence.pad([watched(Pixels(model=str(tmp_path)), pictures(2))])
    expected = watched(TransformerVision(model=str(tmp_path), pooling="mean"), pictures(2))
    with torch.no_grad():
        torch.testing.assert_close(built(tmp_path, pooling="mean")(raw).values[0], expected, atol=1e-5, rtol=0)
