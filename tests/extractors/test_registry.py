"""Extractors by name, and back from their specs."""

from __future__ import annotations

import dataclasses
import sys
import types
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

import extractors
from extractors.base import TextExtractor
from extractors.registry import _BUILTIN, parameters_of


class Counting(TextExtractor):
    """One step, the number of words: an extractor as a user would write it."""

    def __init__(self, *, factor: float = 1.0) -> None:
        self._factor = factor
        self.names = ("words",)
        self.spec = extractors.ExtractorSpec("my_extractors:Counting", "mine", "1", {"factor": factor})

    def extract_text(
        self, transcript: extractors.Transcript, start_seconds: float = 0.0, end_seconds: float | None = None
    ) -> extractors.FeatureSequence:
        count = len(transcript.text.split()) * self._factor
        times = np.array([[start_seconds, end_seconds or start_seconds]])
        return extractors.FeatureSequence(np.array([[count]], np.float32), times, self.names)


@pytest.fixture
def my_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = types.ModuleType("my_extractors")
    module.Counting = Counting  # type: ignore[attr-defined]
    module.NotOne = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_extractors", module)
    return


def test_every_listed_extractor_can_be_found() -> None:
    assert extractors.available() == (
        "speech.librosa",
        "speech.torchaudio",
        "speech.transformers",
        "speech.egemaps",
        "speech.waveform",
        "speech.classifier",
        "facial.facemesh",
        "facial.transformers",
        "facial.classifier",
        "facial.video_transformers",
        "vision.colour",
        "vision.pixels",
        "vision.transformers",
        "vision.video_transformers",
        "text.characters",
        "text.lexical",
        "text.tokens",
        "text.transformers",
        "text.classifier",
    )
    for name, home in _BUILTIN.items():
        module = __import__(home.partition(":")[0], fromlist=["x"])
        assert name == getattr(module, home.partition(":")[2]).REGISTRY_NAME


@pytest.mark.parametrize(
    "name", ["speech.librosa", "speech.torchaudio", "facial.facemesh", "vision.colour", "text.lexical"]
)
def test_spec_builds_the_same_extractor(name: str) -> None:
    extractor = extractors.build(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = extractors.rebuild(extractors.ExtractorSpec.from_json(extractor.spec.to_json()))
    assert again.spec == extractor.spec
    assert again.names == extractor.names
    assert len(set(again.names)) == len(again.names)
    assert again.empty().dim == len(extractor.names)


def test_another_version_warns_with_both() -> None:
    spec = extractors.build("speech.librosa").spec
    old = dataclasses.replace(spec, version="0.10.2+1")
    with pytest.warns(
        UserWarning, match=rf"librosa 0\.10\.2\+1, here is librosa {spec.version.replace('+', '.')}.*0\.10\.2 or"
    ):
        extractors.rebuild(old)


def test_unknown_names_and_parameters() -> None:
    with pytest.raises(ValueError, match=r"unknown extractor 'speech.librosae' \(did you mean 'speech.librosa'\?\)"):
        extractors.build("speech.librosae")
    with pytest.raises(
        ValueError, match=r"no parameter 'mfcc_cuont' \(did you mean 'mfcc_count'\?\); it takes window_s"
    ):
        extractors.build("speech.librosa", mfcc_cuont=3)
    with pytest.raises(ValueError, match=r"'text.transformers' needs model: give it"):
        extractors.build("text.transformers")


@pytest.mark.usefixtures("my_module")
def test_the_parameters_of_a_name_are_those_of_its_constructor() -> None:
    assert parameters_of("my_extractors:Counting") == ("factor",)
    with_faces = [name for name in extractors.available() if "faces" in parameters_of(name)]
    assert with_faces == [name for name in extractors.available() if name.startswith("facial.")]
    with pytest.raises(ValueError, match=r"unknown extractor 'facial\.facemash' \(did you mean 'facial\.facemesh'\?\)"):
        parameters_of("facial.facemash")


@pytest.mark.usefixtures("my_module")
def test_a_users_class_by_dotted_path() -> None:
    extractor = extractors.build("my_extractors:Counting", factor=2.0)
    again = extractors.rebuild(extractor.spec)
    extraction = extractors.extract(None, {"text": again}, transcript="one two three")
    assert extraction.sequences["text"].values.tolist() == [[6.0]]


@pytest.mark.usefixtures("my_module")
def test_dotted_paths_that_lead_nowhere() -> None:
    with pytest.raises(ValueError, match=r"cannot be loaded .*no_such_module.*can be imported"):
        extractors.build("no_such_module:Thing")
    with pytest.raises(ValueError, match=r"cannot be loaded .*Missing.*spelled right"):
        extractors.build("my_extractors:Missing")
    with pytest.raises(ValueError, match="'my_extractors:NotOne' is not an extractor: derive the class"):
        extractors.build("my_extractors:NotOne")
    with pytest.raises(ValueError, match="'os:system' is not an extractor"):
        extractors.rebuild(extractors.ExtractorSpec("os:system", "sh", "1", {"command": "true"}))
