"""Pretrained encoders that read raw input in front of a fusion head: frozen, with adapters, or trained in full.

The feature store keeps what an encoder reads (word pieces, samples, pixels), the model runs the encoder on it, and the
head sees hidden states as it sees any other features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmsa.errors import UsageError

if TYPE_CHECKING:
    from mmsa.encoders.encoder import Encoder
    from mmsa.encoders.spec import EncoderSpec

__all__ = ["build_encoder"]


def build_encoder(spec: EncoderSpec, *, pretrained: bool = True) -> Encoder:
    """The encoder that a spec describes, on the CPU, in evaluation mode.

    Args:
        spec: from `mmsa.encoders.spec.encoder_spec`, or a bundle.
        pretrained: whether one that is trained in full starts from the weights it was pretrained with; False where a
            state dict follows. All others do in any case: their state dict leaves out what does not change.

    Raises:
        UsageError: its weights or a library cannot be had, or they are not those that the spec names.
    """
    from mmsa.encoders.image import ImageEncoder
    from mmsa.encoders.speech import SpeechEncoder
    from mmsa.encoders.text import TextEncoder

    kinds: dict[str, type[Encoder]] = {"text": TextEncoder, "audio": SpeechEncoder, "vision": ImageEncoder}
    if spec.modality not in kinds:
        raise UsageError(f"there is no encoder for the modality {spec.modality!r}: allowed are {', '.join(kinds)}")
    return kinds[spec.modality](spec, pretrained=pretrained)
