"""Extractors by name."""

from __future__ import annotations

import difflib
import importlib
import inspect
import warnings
from typing import Any

from extractors.base import Extractor
from extractors.spec import ExtractorSpec

_BUILTIN = {
    "speech.librosa": "extractors.speech.librosa_lld:LibrosaLLD",
    "speech.torchaudio": "extractors.speech.torchaudio_fbank:TorchaudioFbank",
    "speech.transformers": "extractors.speech.transformer:TransformerAudio",
    "speech.egemaps": "extractors.speech.egemaps:EGeMAPS",
    "speech.waveform": "extractors.speech.waveform:Waveform",
    "speech.classifier": "extractors.speech.classifier:SpeechClassifier",
    "facial.facemesh": "extractors.facial.facemesh:FaceMesh",
    "facial.transformers": "extractors.facial.transformer:TransformerFace",
    "facial.classifier": "extractors.facial.classifier:FaceClassifier",
    "facial.video_transformers": "extractors.facial.video_transformer:TransformerFaceVideo",
    "vision.colour": "extractors.vision.colour:Colour",
    "vision.pixels": "extractors.vision.pixels:Pixels",
    "vision.transformers": "extractors.vision.transformer:TransformerVision",
    "vision.video_transformers": "extractors.vision.video_transformer:TransformerVideo",
    "text.characters": "extractors.text.characters:CharacterNgrams",
    "text.lexical": "extractors.text.lexical:Lexical",
    "text.tokens": "extractors.text.tokens:TextTokens",
    "text.transformers": "extractors.text.transformer:TransformerText",
    "text.classifier": "extractors.text.classifier:TextClassifier",
}


def available() -> tuple[str, ...]:
    """Names of the built-in extractors.

    Example:
        >>> "speech.librosa" in available()
        True
    """
    return tuple(_BUILTIN)


def build(name: str, **parameters: Any) -> Extractor:
    """Build an extractor.

    Args:
        name: one of `available()`, or `"package.module:Class"` for a class of yours that derives from
            `extractors.AudioExtractor`, `VisionExtractor` or `TextExtractor`.
        parameters: the constructor's keyword arguments.

    Raises:
        ValueError: unknown name or parameter (with the nearest known one), a missing parameter, or a value that
            the extractor refuses.
        ToolError: the extractor needs something that is not installed.

    Example:
        >>> build("speech.librosa", mfcc_count=20).modality
        'audio'
    """
    kind = _find(name)
    signature = inspect.signature(kind)
    if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        for given in parameters:
            if given not in signature.parameters:
                raise ValueError(
                    f"extractor {name!r} has no parameter {given!r}{_nearest(given, signature.parameters)}; "
                    f"it takes {', '.join(signature.parameters) or 'none'}"
                )
    missing = [p.name for p in signature.parameters.values() if p.default is p.empty and p.kind is p.KEYWORD_ONLY]
    missing = [needed for needed in missing if needed not in parameters]
    if missing:
        raise ValueError(f"extractor {name!r} needs {', '.join(missing)}: give {'it' if len(missing) == 1 else 'them'}")
    return kind(**parameters)


def placement(name: str, device: str) -> dict[str, str]:
    """The argument that puts an extractor on a device; none for `"auto"` and where it takes none.

    Args:
        name: see `build`.
        device: of torch.

    Example:
        >>> placement("vision.transformers", "cuda"), placement("facial.facemesh", "cuda")
        ({'device': 'cuda'}, {})
    """
    return {"device": device} if device != "auto" and "device" in parameters_of(name) else {}


def parameters_of(name: str) -> tuple[str, ...]:
    """The keyword arguments that an extractor takes.

    Args:
        name: see `build`.

    Raises:
        ValueError: unknown name.

    Example:
        >>> "faces" in parameters_of("facial.facemesh")
        True
    """
    return tuple(inspect.signature(_find(name)).parameters)


def rebuild(spec: ExtractorSpec, **hints: Any) -> Extractor:
    """Build the extractor that a spec describes, as when scoring with a bundle.

    Args:
        spec: what a bundle or a feature store holds.
        hints: replacements for the spec's `hints`, such as the folder to which weights have moved; and arguments that
            are in no spec, such as those of `placement`.

    Raises:
        ValueError: the spec names an extractor or a parameter that does not exist here, or weights other than its own.
        ToolError: the extractor needs something that is not installed.

    Warns:
        UserWarning: the tool's version differs from the spec's, so the numbers may differ.
    """
    extractor = build(spec.name, **{**spec.parameters, **spec.hints, **hints})
    if extractor.spec.version != spec.version:
        release = spec.version.partition("+")[0]
        warnings.warn(
            f"extractor {spec.name!r}: the spec was written with {spec.tool} {spec.version}, here is "
            f"{extractor.spec.tool} {extractor.spec.version}; features may differ: install {spec.tool}=={release} or"
            " extract and train again",
            stacklevel=2,
        )
    return extractor


def _find(name: str) -> type[Extractor]:
    target = _BUILTIN.get(name, name)
    module_name, colon, class_name = target.partition(":")
    if not colon:
        raise ValueError(
            f"unknown extractor {name!r}{_nearest(name, _BUILTIN)}; available are {', '.join(_BUILTIN)}, "
            "and classes of yours as 'package.module:Class'"
        )
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(
            f"extractor {name!r} cannot be loaded ({error}): check that the module can be imported from here and the "
            "class is spelled right"
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, Extractor)):
        raise ValueError(
            f"{name!r} is not an extractor: derive the class from extractors.AudioExtractor, VisionExtractor or "
            "TextExtractor"
        )
    return kind


def _nearest(given: str, known: Any) -> str:
    close = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
