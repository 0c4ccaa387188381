"""`EncoderSpec`: what must be known to build an encoder again, as a bundle keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsa.errors import UsageError, unknown

if TYPE_CHECKING:
    from extractors.pretrained import Pretrained
    from mmsa.encoders.config import EncoderConfig

SAMPLE_RATE_HZ = 16000


class EncoderMissingError(UsageError):
    """Weights or a library that an encoder needs are not here."""


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder; plain JSON values through `to_dict`.

    Attributes:
        modality: what it reads.
        tune: `"frozen"`, `"lora"` or `"full"`.
        base: which weights it started from: `weights_sha256` of a folder, or `model` and `revision` on the hub.
        architecture: its configuration, as `transformers` writes it.
        dim: size of a hidden state.
        layer: which hidden states are given on.
        reads: what must be known of its input (special tokens and longest text, scaling of samples, size of pictures).
        options: `unit` or `pooling`, where the modality has one.
        lora: `rank`, `alpha`, `dropout` and `targets` of its adapters; empty without.
        hints: `model`: where its weights were found; changes no number.
    """

    modality: str
    tune: str
    base: Mapping[str, Any]
    architecture: Mapping[str, Any]
    dim: int
    layer: int
    reads: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    lora: Mapping[str, Any] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)

    @property
    def layers(self) -> int:
        """How many layers the encoder has, or stages of blocks added up."""
        own = _own(self.architecture)
        found = own.get("num_hidden_layers") or sum(own.get("depths") or []) or 1
        return int(found)

    @property
    def step_cost(self) -> int:
        """What one raw step costs, counted in steps of a head: a position in a layer counts as one.

        A word piece, or 20 ms of sound, is one position; a picture is as many as it has patches.
        """
        if self.modality != "vision":
            return self.layers
        _, height, width = self.reads["shape"]
        patch = _own(self.architecture).get("patch_size") or 16
        rows, columns = (patch, patch) if isinstance(patch, int) else patch
        return self.layers * max(1, int((height // rows) * (width // columns)))

    def identity(self) -> dict[str, Any]:
        """All that decides its numbers."""
        return {key: value for key, value in self.to_dict().items() if key != "hints"}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def _own(architecture: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration for images and text, or text and sound, that is about the encoder's own input."""
    for key in ("vision_config", "text_config"):
        if isinstance(architecture.get(key), Mapping):
            return architecture[key]  # type: ignore[no-any-return]
    return architecture


def encoder_spec(modality: str, config: EncoderConfig) -> EncoderSpec:
    """What a configuration means here; the model's weights are found and hashed, not loaded.

    Raises:
        UsageError: the model or a library cannot be had, it does not read this modality, or a setting does not fit it.
    """
    from extractors.errors import ToolError

    if config.tune == "lora":
        check_peft()
    try:
        return _spec(modality, config)
    except (ValueError, ToolError) as error:
        raise UsageError(f"encoders.{modality}: {error}") from None


def _spec(modality: str, config: EncoderConfig) -> EncoderSpec:
    from extractors import pretrained

    found = pretrained.find(config.model, config.revision)
    architecture = _architecture(found.config)
    reads, options = _input_of(modality, config, found)
    layers = getattr(_own_config(found.config, modality), "num_hidden_layers", None)
    if layers is not None and not -layers - 1 <= config.layer <= layers:
        raise ValueError(f"layer must be from {-layers - 1} to {layers}, as this model has {layers} layers")
    spec = EncoderSpec(
        modality=modality,
        tune=config.tune,
        base=found.identity,
        architecture=architecture,
        dim=_dim(_own_config(found.config, modality), found.source.name),
        layer=config.layer,
        reads=reads,
        options=options,
        lora=_lora(config),
        hints=found.hints,
    )
    _check_targets(spec)
    return spec


def _architecture(config: Any) -> dict[str, Any]:
    """The configuration as JSON, without what says where it lay; what is random beside dropout is switched off.

    Masking of stretches of sound and dropping of whole layers are for pretraining: the first fails on short clips, the
    second leaves weights without a gradient.
    """
    found = json.loads(config.to_json_string(use_diff=False))
    switches = {"apply_spec_augment": False, "layerdrop": 0.0}
    return {
        **{key: value for key, value in found.items() if not key.startswith("_")},
        **{key: off for key, off in switches.items() if key in found},
    }


def _own_config(config: Any, modality: str) -> Any:
    if modality == "text":
        return config.get_text_config()
    return getattr(config, "vision_config", config) if modality == "vision" else config


def _dim(config: Any, name: str) -> int:
    width = getattr(config, "hidden_size", None) or (getattr(config, "hidden_sizes", None) or [None])[-1]
    if not isinstance(width, int):
        raise ValueError(f"{name}: its configuration ({type(config).__name__}) names no size of hidden states")
    return width


def _input_of(modality: str, config: EncoderConfig, found: Pretrained) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the encoder must be told of its input, and its options."""
    if modality == "text":
        return _text_input(found), {"unit": config.unit or "word"}
    if modality == "audio":
        return _audio_input(found), {}
    from extractors.vision.pixels import load_processor, picture_shape

    shape = picture_shape(load_processor(found.source), found.source.name)
    return {"shape": list(shape)}, {"pooling": config.pooling or "cls"}


def _text_input(found: Pretrained) -> dict[str, Any]:
    """Special tokens before and after a text, and how many pieces fit between them."""
    from extractors.text.tokens import load_tokenizer
    from extractors.text.transformer import window_length
    from mmsa.encoders.architecture import without_weights

    tokenizer = load_tokenizer(found.source)
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    if 0 not in special:
        raise ValueError(f"{found.source.name}: its tokenizer makes nothing of the letter a")
    first, last = special.index(0), len(special) - special[::-1].index(0)
    length = window_length(tokenizer, without_weights(_architecture(found.config)))
    return {
        "prefix": ids[:first],
        "suffix": ids[last:],
        "pad": tokenizer.pad_token_id or 0,
        "pieces": length - first - (len(ids) - last),
    }


def _audio_input(found: Pretrained) -> dict[str, Any]:
    """How samples are scaled, and how the first layers, convolutions, make steps of them."""
    from extractors import pretrained

    kernels, strides = (getattr(found.config, f"conv_{name}", None) for name in ("kernel", "stride"))
    if not kernels or not strides:
        raise ValueError(
            f"{found.source.name}: a {type(found.config).__name__} reads no samples; allowed are encoders such as "
            "wav2vec 2.0, HuBERT, WavLM or data2vec-audio"
        )
    prepare = pretrained.load("feature extractor", "AutoFeatureExtractor", found.source)
    if getattr(prepare, "sampling_rate", None) != SAMPLE_RATE_HZ:
        raise ValueError(f"{found.source.name}: wants {prepare.sampling_rate} Hz; samples come at {SAMPLE_RATE_HZ} Hz")
    field_samples, stride = 1, 1
    for kernel, own in zip(kernels, strides, strict=True):
        field_samples += (kernel - 1) * stride
        stride *= own
    return {
        "normalise": bool(getattr(prepare, "do_normalize", True)),
        # Statistics over time, which padding would change: such encoders hear clips of one length at a time.
        "whole": getattr(found.config, "feat_extract_norm", None) == "group",
        "field": field_samples,
        "stride": stride,
    }


def _lora(config: EncoderConfig) -> dict[str, Any]:
    if config.tune != "lora":
        return {}
    return {
        "rank": config.lora_rank,
        "alpha": config.lora_alpha,
        "dropout": config.lora_dropout,
        "targets": None if config.lora_targets is None else list(config.lora_targets),
    }


def check_peft() -> None:
    """Refuse adapters where peft is missing, before any work.

    Raises:
        EncoderMissingError: it is.
    """
    from importlib.util import find_spec

    if find_spec("peft") is None:
        raise EncoderMissingError(
            "tune: lora needs the package peft, which is not installed: pip install 'mmsa-framework[finetune]', or use "
            "tune: full or tune: frozen"
        )


def _check_targets(spec: EncoderSpec) -> None:
    """Every target is the last part of some linear layer's name, or several parts of it."""
    from mmsa.encoders.architecture import linear_layers

    for target in spec.lora.get("targets") or ():
        layers = linear_layers(spec)
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            raise unknown("linear layer, for lora_targets,", target, {name.rpartition(".")[2] for name in layers})


def located(spec: EncoderSpec, folder: Path | str) -> EncoderSpec:
    """The same encoder with its weights in another place."""
    return EncoderSpec(**{**spec.to_dict(), "hints": {**spec.hints, "model": str(folder)}})


def specs_of(found: Mapping[str, Mapping[str, Any]]) -> dict[str, EncoderSpec]:
    """By modality, from plain JSON values."""
    return {key: EncoderSpec(**own) for key, own in sorted(found.items())}


def bases_of(encoders: Mapping[str, EncoderConfig]) -> dict[str, dict[str, Any]]:
    """Which weights the encoders of a configuration start from."""
    return {key: dict(encoder_spec(key, own).base) for key, own in sorted(encoders.items())}
