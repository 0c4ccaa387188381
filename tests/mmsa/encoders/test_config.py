from __future__ import annotations

from typing import Any

import pytest

from mmsa.config import ExtractorConfig, TrainConfig, make_config
from mmsa.encoders.config import RAW, EncoderConfig
from mmsa.errors import UsageError

TEXT = {"encoders.text.model": "some/model", "encoders.text.tune": "lora"}


def test_an_encoder_brings_the_extractor_of_what_it_reads() -> None:
    config = make_config(None, {**TEXT, "encoders.text.revision": "abc"})
    assert config.extractor("text") == ExtractorConfig(
        name="text.tokens", parameters={"model": "some/model", "revision": "abc"}
    )
    assert config.extractor("audio").name == "speech.librosa"  # the others keep theirs
    vision = make_config(
        None, {"encoders.vision.model": "m", "encoders.vision.tune": "full", "encoders.vision.frames_per_second": 4}
    )
    assert vision.extractor("vision").parameters == {"model": "m", "frames_per_second": 4}
    audio = make_config(None, {"encoders.audio.model": "m", "encoders.audio.tune": "frozen"})
    assert audio.extractor("audio") == ExtractorConfig(name="speech.waveform", parameters={})


def test_every_raw_extractor_exists_and_is_raw() -> None:
    from extractors import available
    from extractors.registry import _find

    for modality, name in RAW.items():
        assert name in available()
        assert _find(name).raw
        assert _find(name).modality == modality


def test_it_survives_json() -> None:
    """A run that goes on reads its settings from a checkpoint, where every default is spelled out."""
    config = make_config(None, {**TEXT, "encoders.text.lora_targets": ["query", "value"]})
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"encoders.text.tun": "lora"}, r"encoders\.text\.tun: unknown key; did you mean 'tune'\?"),
        ({"encoders.text.tune": "some"}, r"encoders\.text\.tune: .* 'frozen', 'lora' or 'full', not 'some'"),
        ({"encoders.txt.model": "m", "encoders.txt.tune": "full"}, r"txt: there are .* mean encoders\.text\?"),
        ({"encoders.text.pooling": "cls"}, r"encoders\.text\.pooling belongs to vision"),
        ({"encoders.text.tune": "full", "encoders.text.lora_rank": 4}, r"lora_rank belong to tune: lora, .* is full"),
        ({"encoders.text.tune": "frozen", "encoders.text.learning_rate": 1e-4}, r"learning_rate have no effect on an"),
        ({"encoders.text.tune": "frozen", "encoders.text.gradient_checkpointing": True}, r"checkpointing have no"),
        ({"extractors.text.name": "text.lexical"}, r"extractors\.text has no effect beside encoders\.text, which"),
        ({"modalities": ["audio"]}, r"encoders\.text has no effect: text is not among the modalities"),
        ({"encoders.text.lora_rank": 0}, r"encoders\.text\.lora_rank: Input should be greater than or equal to 1"),
        ({"encoders.text.learning_rate": 0}, r"encoders\.text\.learning_rate: Input should be greater than 0"),
    ],
)  # fmt: skip
def test_mistakes(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_config(None, {**TEXT, **given})


@pytest.mark.parametrize("missing", ["model", "tune"])
def test_what_must_be_given(missing: str) -> None:
    with pytest.raises(UsageError, match=rf"encoders\.text\.{missing}: Field required"):
        make_config(None, {key: value for key, value in TEXT.items() if not key.endswith(missing)})


def test_rates() -> None:
    assert EncoderConfig(model="m", tune="lora").rate() > EncoderConfig(model="m", tune="full").rate()
    assert EncoderConfig(model="m", tune="full", learning_rate=0.5).rate() == 0.5
    assert EncoderConfig(model="m", tune="full", weight_decay=0.0).decay() == 0.0
