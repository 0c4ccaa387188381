"""Preparing the frames of a window as a video encoder's own processor does, in its Pillow form."""

from __future__ import annotations

import importlib
import re
from typing import Any

from extractors import pretrained
from extractors.errors import ToolError

# The module and the first part of the name of each known processor, by the type of the models that come with it.
_FAMILIES = {
    "videomae": "VideoMAE",
    "timesformer": "Timesformer",
    "vivit": "Vivit",
    "vjepa2": "VJEPA2",
}
_SETTINGS = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize",
    "image_mean", "image_std",
)  # fmt: skip
_TYPES = ("video_processor_type", "image_processor_type", "feature_extractor_type")


def load_video_processor(source: pretrained.Source, model_type: str) -> Any:
    """The processor of a video encoder: call it with a list of pictures of `(H, W, 3)`.

    transformers' video processors need torchvision; all known ones do the same steps, frame by frame (resize, crop,
    rescale, normalise), which its image processors for video do with Pillow, whatever else is installed. The settings
    are read as transformers reads them: those in `processor_config.json`, `video_preprocessor_config.json` or
    `preprocessor_config.json`, the first there is, with the defaults of the model's own class. How many frames a second
    it would sample is left out: that is the extractor's `frames_per_second`.

    Args:
        source: where the model is.
        model_type: of its configuration.

    Raises:
        ToolError: there are no settings, or they are those of a processor that is not known here.
    """
    settings, family = _read(source, model_type)
    if family == "vivit":  # the one that shifts what it has rescaled
        return _class("image_processing_vivit", family, "ImageProcessor")(**settings)
    return _class("image_processing_pil_videomae", "videomae", "ImageProcessorPil")(**settings)


def _read(source: pretrained.Source, model_type: str) -> tuple[dict[str, Any], str]:
    """The settings, and whose they are."""
    try:
        base = _class("video_processing_videomae", "videomae", "VideoProcessor")
        given, _ = base.get_video_processor_dict(
            source.name, revision=source.revision or "main", local_files_only=source.local
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ToolError(
            f"{source.name}: the video processor cannot be loaded ({reason}). Needed is preprocessor_config.json or "
            "video_preprocessor_config.json: put it into the folder of the model"
        ) from error
    named = next((str(given[key]) for key in _TYPES if given.get(key)), "")
    own = re.sub(r"(Video|Image)Processor(Pil|Fast)?$|FeatureExtractor$", "", named)
    family = next((key for key, name in _FAMILIES.items() if name == own), model_type if not named else None)
    if family not in _FAMILIES:
        raise ToolError(
            f"{source.name}: its processor ({named or f'of the model type {model_type!r}'}) is none of a video encoder "
            f"that is known here: those of {', '.join(_FAMILIES.values())} are"
        )
    settled = _class(f"video_processing_{family}", family, "VideoProcessor").from_dict(given)
    settings = {key: getattr(settled, key) for key in _SETTINGS}
    settings |= {key: dict(settings[key]) for key in ("size", "crop_size") if settings[key] is not None}
    return settings | ({"offset": given.get("offset", True)} if family == "vivit" else {}), family


def _class(module: str, family: str, ending: str) -> Any:
    # By module: the top level of transformers has placeholders instead where torchvision is not installed.
    return getattr(importlib.import_module(f"transformers.models.{family}.{module}"), f"{_FAMILIES[family]}{ending}")
