"""The option `--faces`: which of several faces counts."""

from __future__ import annotations

from mmsa.config import TrainConfig
from mmsa.errors import UsageError, unknown

KEY = "extractors.vision.parameters.faces"
"""The setting that the option stands for."""


def check_faces(faces: str, config: TrainConfig) -> None:
    """Check that the option has an effect, before anything is read.

    Args:
        faces: what was given.
        config: with the setting in it.

    Raises:
        UsageError: no such choice, no vision, or an extractor of vision that looks at no faces.
    """
    from extractors.facial.facemesh import WHICH
    from extractors.registry import available, parameters_of

    if faces not in WHICH:
        raise unknown("choice of --faces", faces, WHICH)
    if config.modalities is not None and "vision" not in config.modalities:
        raise UsageError(
            f"--faces {faces} has no effect: vision is not among the modalities {', '.join(config.modalities)}"
        )
    if "vision" in config.encoders:
        raise UsageError(
            f"--faces {faces} has no effect: encoders.vision looks at whole pictures; leave one of them out"
        )
    chosen = config.extractor("vision")
    name = chosen.name
    if chosen.parameters.get("faces") != faces:
        raise UsageError(
            f"--faces {faces} is at odds with --set, which asks for {chosen.parameters.get('faces')}: give one"
        )
    try:
        takes = "faces" in parameters_of(name)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not takes:
        able = ", ".join(one for one in available() if one.startswith("facial."))
        raise UsageError(
            f"--faces {faces} has no effect: {name} looks at whole pictures. Leave it out, or choose one of {able} "
            "with --set extractors.vision.name=…"
        )
