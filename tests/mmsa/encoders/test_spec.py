from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mmsa.encoders.config import EncoderConfig
from mmsa.encoders.spec import EncoderSpec, bases_of, check_peft, encoder_spec, located, specs_of
from mmsa.errors import UsageError


def spec_of(folder: Path, modality: str = "text", tune: str = "lora", **settings: Any) -> EncoderSpec:
    return encoder_spec(modality, EncoderConfig(model=str(folder), tune=tune, **settings))  # type: ignore[arg-type]


def test_it_is_plain_json_and_comes_back(bert: Path) -> None:
    spec = spec_of(bert)
    (again,) = specs_of(json.loads(json.dumps({"text": spec.to_dict()}))).values()
    assert again.to_dict() == spec.to_dict()
    assert (again.dim, again.layers) == (24, 2)
    assert again.reads == {"prefix": [2], "suffix": [3], "pad": 0, "pieces": 14}


def test_where_it_lay_is_no_part_of_what_it_is(bert: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bert, tmp_path / "copy"))
    assert spec_of(copy).identity() == spec_of(bert).identity()
    assert str(bert) not in json.dumps(spec_of(bert).identity())
    assert spec_of(copy).hints != spec_of(bert).hints
    assert located(spec_of(copy), bert).to_dict() == spec_of(bert).to_dict()


def test_other_weights_are_another_base(bert: Path, tmp_path: Path, make_bert: Any) -> None:
    config = {"text": EncoderConfig(model=str(bert), tune="lora")}
    other = {"text": EncoderConfig(model=str(make_bert(tmp_path, initializer_range=0.1)), tune="lora")}
    assert bases_of(config) != bases_of(other)
    assert bases_of(config)["text"] == spec_of(bert).base


def test_randomness_of_pretraining_is_off(wav2vec2: Path) -> None:
    """The folder's own configuration masks stretches of sound and drops whole layers."""
    own = json.loads((wav2vec2 / "config.json").read_text())
    assert own["apply_spec_augment"]
    assert own["layerdrop"] == 0.5
    architecture = spec_of(wav2vec2, "audio").architecture
    assert (architecture["apply_spec_augment"], architecture["layerdrop"]) == (False, 0.0)


def test_how_sound_becomes_steps(wav2vec2: Path, wav2vec2_group: Path) -> None:
    """Kernels 10 and 12, strides 8 and 10: a step sees 10 + 11 * 8 samples and comes every 80."""
    assert spec_of(wav2vec2, "audio").reads == {"normalise": True, "whole": False, "field": 98, "stride": 80}
    assert spec_of(wav2vec2_group, "audio").reads["whole"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": 3}, r"encoders\.text: layer must be from -3 to 2, as this model has 2 layers"),
        ({"lora_targets": ("quary",)}, r"there is no linear layer, for lora_targets, 'quary'\. Did you mean 'query'\?"),
        ({"revision": "main"}, r"encoders\.text: revision='main' is for hub models"),
    ],
)
def test_settings_that_do_not_fit_the_model(bert: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        spec_of(bert, **settings)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"encoders\.text: model='.*gone': no such folder"):
        spec_of(tmp_path / "gone")


def test_adapters_need_peft(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else real(name))
    message = r"needs the package peft, .*pip install 'mmsa-framework\[finetune\]'"
    with pytest.raises(UsageError, match=message):
        check_peft()
    with pytest.raises(UsageError, match=message):
        spec_of(bert)
    assert spec_of(bert, tune="full").lora == {}
