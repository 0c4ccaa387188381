"""`Whisper` on a small model that was trained here: the real generation, with words and times that are known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import extractors
from extractors.transcript import Transcript
from extractors.transcription.whisper import Whisper

Spoken = Callable[..., np.ndarray]

# Two stretches that a pause parts, one of them as long as the model takes, and one that must be cut.
SAID = [(" yes", 1.0), (" no", 1.5), (" maybe", 2.0), (" yes", 5.0), (" no", 5.5), (" maybe", 6.1), (" no", 6.6),
        (" yes", 7.1), (" maybe", 10.0)]  # fmt: skip


def words(transcript: Transcript) -> list[tuple[str, float, float]]:
    return [
        (one.text[w.first : w.after], w.start_seconds, w.end_seconds) for one in transcript.segments for w in one.words
    ]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 3])
def test_words_and_their_times_are_found_across_stretches(
    whisper_folder: Path, spoken: Spoken, batch_size: int
) -> None:
    """Each word once, in order, about where its beep is: stretches are put together on one clock."""
    found = Whisper(model=str(whisper_folder), language="en", batch_size=batch_size).transcribe_samples(
        spoken(SAID, 12.0)
    )
    assert [word for word, _, _ in words(found)] == [word.strip() for word, _ in SAID]
    for (_, start, end), (_, at) in zip(words(found), SAID, strict=True):
        assert abs(start - at) < 0.45
        assert start <= end < at + 0.8
    assert found.language == "en"
    assert all(one.end_seconds - one.start_seconds <= 2.0 for one in found.segments)


@pytest.mark.slow
def test_silence_is_never_given_to_the_model(
    whisper_folder: Path, spoken: Spoken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked about silence, this model makes a word up, as published ones do; so it must not be asked."""
    whisper = Whisper(model=str(whisper_folder), language="en")
    silence = spoken([], 5.0)
    assert whisper.transcribe_samples(silence) == Transcript((), "en")
    eager = Whisper(model=str(whisper_folder), language="en", silence_db=-120.0)
    assert len(eager.transcribe_samples(silence).text) > 0
    heard: list[float] = []
    recognise = Whisper.recognise

    def noted(self: Whisper, stretches: list, language: str | None):
        heard.extend(len(one.samples) / 16000 for one in stretches)
        return recognise(self, stretches, language)

    monkeypatch.setattr(Whisper, "recognise", noted)
    whisper.transcribe_samples(spoken([(" no", 10.0)], 40.0))
    assert heard == [pytest.approx(0.24 + 0.4, abs=0.05)]


@pytest.mark.slow
def test_blocks_change_nothing(whisper_folder: Path, spoken: Spoken) -> None:
    sound, whisper = spoken(SAID, 12.0), Whisper(model=str(whisper_folder), language="en")
    stream = whisper.stream()
    for first in range(0, len(sound), 7001):
        stream.push(sound[first : first + 7001])
    assert stream.finish() == whisper.transcribe_samples(sound)


@pytest.mark.slow
def test_the_language_is_heard_once_and_kept(whisper_folder: Path, spoken: Spoken) -> None:
    """The model was trained on nothing but English, and hears it."""
    found = Whisper(model=str(whisper_folder)).transcribe_samples(spoken(SAID[:3], 4.0))
    assert found.language == "en"
    assert found.text == "yes no maybe"


@pytest.mark.slow
def test_without_alignment_heads_phrases_have_times_and_a_warning_says_so(
    whisper_folder: Path, spoken: Spoken, tmp_path: Path
) -> None:
    folder = shutil.copytree(whisper_folder, tmp_path / "plain")
    config = json.loads((folder / "generation_config.json").read_text())
    del config["alignment_heads"]
    (folder / "generation_config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match=r"names no alignment_heads, so only phrases have times"):
        found = Whisper(model=str(folder), language="en").transcribe_samples(spoken(SAID[:3], 4.0))
    assert found.text == "yes no maybe"
    (segment,) = found.segments
    assert segment.words == ()
    assert segment.start_seconds == pytest.approx(0.8, abs=0.05)
    assert 2.0 < segment.end_seconds <= 2.8  # at the latest where the stretch of 2 s ends


@pytest.mark.slow
def test_the_language_must_be_one_that_the_model_knows(whisper_folder: Path) -> None:
    assert Whisper(model=str(whisper_folder), language="English").language == "en"
    with pytest.raises(ValueError, match=r"language must be a code such as 'en' .* not 'klingon'"):
        Whisper(model=str(whisper_folder), language="klingon")
    with pytest.raises(ValueError, match="knows the languages de, en, not 'zh'"):
        Whisper(model=str(whisper_folder), language="zh").stream()


@pytest.mark.slow
def test_the_spec_tells_models_and_languages_apart(whisper_folder: Path, tmp_path: Path) -> None:
    first = Whisper(model=str(whisper_folder), language="en")
    moved = Whisper(model=str(shutil.copytree(whisper_folder, tmp_path / "moved")), language="en", batch_size=1)
    assert moved.spec.fingerprint == first.spec.fingerprint
    assert Whisper(model=str(whisper_folder), language="de").spec.fingerprint != first.spec.fingerprint
    config = tmp_path / "moved" / "generation_config.json"
    config.write_text(config.read_text().replace('"max_length": 40', '"max_length": 41'))
    assert Whisper(model=str(tmp_path / "moved"), language="en").spec.fingerprint != first.spec.fingerprint


@pytest.mark.slow
def test_what_is_no_whisper_is_refused(whisper_folder: Path, tmp_path: Path) -> None:
    import transformers

    transformers.BertConfig(hidden_size=8).save_pretrained(tmp_path)
    with pytest.raises(extractors.ToolError, match="a model of the type 'bert', not a Whisper"):
        Whisper(model=str(tmp_path))
    bare = shutil.copytree(whisper_folder, tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    with pytest.raises(extractors.ToolError, match=r"the weights cannot be loaded from the folder .*put them in one"):
        Whisper(model=str(bare)).stream()
