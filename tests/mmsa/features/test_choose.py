from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmsa.config import make_config
from mmsa.corpora.clip import Clip, Corpus
from mmsa.errors import UsageError
from mmsa.features.choose import build_extractors, choose_extractors, modalities_of

SMALL = {
    "extractors.audio.name": "small_extractors:Loudness",
    "extractors.text.name": "small_extractors:WordLengths",
    "extractors.text.parameters.factor": 3.0,
}


def test_a_corpus_has_what_its_clips_and_its_features_have(corpus_of: Callable[..., Corpus]) -> None:
    words, sound = Clip("a", "train", {}, transcript="so"), Clip("b", "train", {}, Path("b.wav"))
    assert modalities_of(corpus_of([words])) == ("text",)
    assert modalities_of(corpus_of([sound])) == ("audio", "vision")
    assert modalities_of(corpus_of([words, sound])) == ("audio", "text", "vision")
    assert modalities_of(corpus_of([replace(words, transcript="")])) == ()
    assert modalities_of(replace(corpus_of([words]), features={"eeg": Path("eeg")})) == ("eeg", "text")


def test_ready_made_features_win_unless_an_extractor_is_named(corpus: Corpus, small: Any) -> None:
    both = replace(corpus, features={"text": Path("text"), "eeg": Path("eeg")})
    ready, built = choose_extractors(both, make_config(None, {"extractors.audio.name": SMALL["extractors.audio.name"]}))
    assert (ready, sorted(built)) == (["eeg", "text"], ["audio", "vision"])
    ready, built = choose_extractors(both, make_config(None, {**SMALL, "modalities": ["text", "eeg"]}))
    assert (ready, list(built)) == (["eeg"], ["text"])
    assert built["text"].spec == small.WordLengths(factor=3.0).spec


@pytest.mark.parametrize(
    ("settings", "modalities", "message"),
    [
        ({}, ["smell"], "no extractor is configured for the modality 'smell'"),
        ({"extractors.audio.name": "speech.librosaa"}, ["audio"], "did you mean 'speech.librosa'"),
        ({"extractors.text.parameters.factr": 1}, ["text"], "did you mean 'factor'"),
        ({"extractors.vision.name": "small_extractors:Loudness"}, ["vision"], "Loudness makes audio, not vision"),
    ],
)
def test_what_cannot_be_built_is_said(
    small: Any, settings: dict[str, Any], modalities: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build_extractors(make_config(None, {**SMALL, **settings}), modalities)


def test_extractors_are_put_on_the_device_of_the_run() -> None:
    """Unless their own parameters name another; those that compute on CPUs alone take none."""
    names = {"extractors.audio.name": "speech.torchaudio", "extractors.text.name": "text.characters"}

    def device(**settings: Any) -> str:
        built = build_extractors(make_config(None, {**names, **settings}), ["audio", "text"])
        return str(built["audio"]._device)  # type: ignore[attr-defined]

    assert device() == "auto"
    assert device(device="cpu") == "cpu"
    assert device(**{"device": "cpu", "extractors.audio.parameters.device": "cuda:1"}) == "cuda:1"
