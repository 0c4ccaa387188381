"""The encoders of a bundle: which weights are copied into it, and where they are found again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmsa.encoders.spec import EncoderSpec, located, specs_of


def pack_encoders(encoders: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, dict[str, Any]]:
    """Encoders as they stand in a bundle.

    Of one that is trained in full, the bundle's own weights are all there is. The weights beneath adapters, and those
    of a frozen encoder, are copied in where they lie in a folder of this machine; those of the hub or of an installed
    package are named by their revision or hash, and found there again.

    Args:
        encoders: as in `ModelConfig`.
        folder: of the bundle.
    """
    return {key: _packed(spec, folder).to_dict() for key, spec in specs_of(encoders).items()}


def _packed(spec: EncoderSpec, folder: Path) -> EncoderSpec:
    from mmsa.bundle import pack_hint

    if spec.tune == "full":
        return EncoderSpec(**{**spec.to_dict(), "hints": {}})
    if "model" not in spec.hints:
        return spec
    name = f"{spec.base['weights_sha256'][:16]}-weights"
    return located(spec, str(pack_hint(spec.hints["model"], folder, name)))


def unpack_encoders(encoders: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, dict[str, Any]]:
    """What `pack_encoders` gave, with the places where weights lie now.

    Raises:
        ValueError: a path leads out of the bundle.
    """
    from mmsa.bundle import locate_hint

    found = {}
    for key, spec in specs_of(encoders).items():
        hints = {name: locate_hint(hint, folder) for name, hint in spec.hints.items()}
        found[key] = EncoderSpec(**{**spec.to_dict(), "hints": hints}).to_dict()
    return found
