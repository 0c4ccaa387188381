from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmsa.encoders.architecture import (
    add_adapters,
    configuration,
    empty_network,
    linear_layers,
    pretrained_network,
    without_weights,
)
from mmsa.encoders.config import EncoderConfig
from mmsa.encoders.spec import EncoderMissingError, EncoderSpec, encoder_spec, located
from mmsa.errors import UsageError


@pytest.fixture
def spec(bert: Path) -> EncoderSpec:
    return encoder_spec("text", EncoderConfig(model=str(bert), tune="lora"))


def test_the_same_network_from_json(spec: EncoderSpec) -> None:
    loaded, empty, meta = pretrained_network(spec), empty_network(spec.architecture), without_weights(spec.architecture)
    shapes = {name: value.shape for name, value in loaded.named_parameters()}
    assert shapes == {name: value.shape for name, value in empty.named_parameters()}
    assert shapes == {name: value.shape for name, value in meta.named_parameters()}
    assert not any("pooler" in name for name in shapes)
    assert {value.device.type for value in meta.parameters()} == {"meta"}


def test_adapters(spec: EncoderSpec) -> None:
    """`W x + (alpha / rank) B A x`, and nothing else has a gradient."""
    network: Any = pretrained_network(spec)
    before = network.encoder.layer[0].attention.self.query.weight.detach().clone()
    add_adapters(network, {"rank": 2, "alpha": 6.0, "dropout": 0.0, "targets": ["query"]})
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert len(trained) == 4
    assert all(".query.lora_" in name for name in trained)
    layer = network.encoder.layer[0].attention.self.query.eval()
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()
        x = torch.randn(3, 24)
        low = layer.lora_A["default"].weight
        expected = x @ before.T + layer.base_layer.bias + 3.0 * (x @ low.T) @ layer.lora_B["default"].weight.T
        torch.testing.assert_close(layer(x), expected)


def test_every_linear_layer_without_targets(spec: EncoderSpec) -> None:
    network = pretrained_network(spec)
    names = linear_layers(spec)
    assert len(names) == 2 * 6  # query, key, value, output, and two of the feed-forward part
    add_adapters(network, spec.lora)
    assert {name.removesuffix(".lora_A.default") for name, _ in network.named_modules() if name.endswith(".lora_A.default")} == set(names)  # noqa: E501 # fmt: skip


def test_weights_that_are_gone_or_others(spec: EncoderSpec, tmp_path: Path, make_bert: Any) -> None:
    message = r"the encoder of text starts from weights that are not here \(.*no such folder"
    with pytest.raises(EncoderMissingError, match=message):
        pretrained_network(located(spec, tmp_path / "gone"))
    other = make_bert(tmp_path / "other", initializer_range=0.1)
    with pytest.raises(EncoderMissingError, match=rf"have the SHA-256 .*, but {spec.base['weights_sha256']}"):
        pretrained_network(located(spec, other))


def test_a_checkpoint_that_lacks_a_layer(bert: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(bert, tmp_path / "copy"))
    weights = load_file(folder / "model.safetensors")
    weights.pop("encoder.layer.1.output.dense.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    spec = encoder_spec("text", EncoderConfig(model=str(folder), tune="full"))
    with pytest.raises(UsageError, match=r"its weights lack encoder\.layer\.1\.output\.dense\.weight, which would be"):
        pretrained_network(spec)


def test_a_model_type_that_is_not_known_here(spec: EncoderSpec) -> None:
    strange = replace(spec, architecture={**spec.architecture, "model_type": "bertolino"})
    with pytest.raises(UsageError, match=r"knows no model type 'bertolino' .*install the version"):
        configuration(strange.architecture)
