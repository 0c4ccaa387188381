"""Words of files without a transcript, and times for transcripts without: with models that are made here."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest

from extractors import ExtractorSpec, FeatureSequence, Segment, TextExtractor, Transcript, read_transcript
from extractors.text.timed_text import TimedText
from extractors.text.words import word_spans
from mmsa.errors import UsageError
from mmsa.scoring import Scorer, load_scorer
from mmsa.scoring.batch import Recipe, open_items, score_batch
from mmsa.scoring.inputs import Input
from mmsa.scoring.timeline import Timeline
from mmsa.words import WordOptions, WordSource, saved_path

if TYPE_CHECKING:
    from conftest import Trained

pytestmark = pytest.mark.slow


@pytest.fixture
def talk(tmp_path: Path, beeps: ModuleType) -> Path:
    """Nine seconds in which "yes no" is said at the beginning and "maybe" near the end."""
    samples = beeps.spoken([(" yes", 0.5), (" no", 1.0), (" maybe", 7.0)], 9.0)
    with wave.open(str(tmp_path / "talk.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return tmp_path / "talk.wav"


class PlacedLengths(TextExtractor):
    """The same numbers as the small corpus's extractor of text, of the words that lie in the clip."""

    names = ("length", "capitals")

    def extract_text(
        self, transcript: Transcript, start_seconds: float = 0.0, end_seconds: float | None = None
    ) -> FeatureSequence:
        timed = TimedText(transcript, start_seconds, end_seconds)
        spans = np.array(word_spans(timed.text), np.int64).reshape(-1, 2)
        values = np.array([[after - first, 0] for first, after in spans], np.float32).reshape(-1, 2)
        return timed.sequence(values, spans, self.names)


def scorer_with(trained: Trained, **words: str) -> Scorer:
    scorer = load_scorer(trained.run.id, trust_extractors=True, **words)
    scorer.extractors["text"] = PlacedLengths()
    return scorer


def test_each_window_has_the_words_that_are_said_in_it(trained: Trained, whisper: Path, talk: Path) -> None:
    found = scorer_with(trained, transcribe=str(whisper), language="en").score(talk, window_seconds=3, hop_seconds=3)
    assert [window.text for window in found.windows] == ["yes no", None, "maybe"]
    assert [window.modalities["text"].steps for window in found.windows] == [2, 0, 1]
    assert found.windows[1].missing["text"] == "no words in this part of the transcript"
    assert f"the words were recognised by {whisper.name} (en)" in found.notes
    assert found.options["words"]["language"] == "en"
    assert set(found.options["words"]["transcribe"]) == {"model", "fingerprint"}
    silent = scorer_with(trained).score(talk, window_seconds=3, hop_seconds=3)
    assert [window.text for window in silent.windows] == [None] * 3
    assert "words" not in silent.options


def test_speech_is_cut_into_its_phrases(trained: Trained, whisper: Path, talk: Path) -> None:
    found = scorer_with(trained, transcribe=str(whisper)).score(talk, segments="speech")
    assert [window.text for window in found.windows] == ["yes no", "maybe"]
    assert found.windows[0].start_seconds < 0.6
    assert 6.5 < found.windows[1].start_seconds < 7.2
    with pytest.raises(UsageError, match=r"speech are asked for, but there is no transcript: .*--transcribe"):
        scorer_with(trained).score(talk, segments="speech")


def test_a_transcript_at_hand_is_not_recognised_again(trained: Trained, whisper: Path, talk: Path) -> None:
    talk.with_suffix(".srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nso be it\n", encoding="utf-8")
    found = scorer_with(trained, transcribe=str(whisper), language="en").score(talk, window_seconds=3, hop_seconds=3)
    assert [window.text for window in found.windows] == ["so be it", None, None]
    assert not any("recognised" in note for note in found.notes)
    given = scorer_with(trained, transcribe=str(whisper), language="en").score(talk, text="so be it")
    assert given.windows[0].text == "so be it"


def test_a_text_without_times_gets_some(trained: Trained, ctc: Path, talk: Path) -> None:
    """Without the aligner no window has words; with it each word is in exactly one of windows that do not overlap."""
    talk.with_suffix(".txt").write_text("yes no maybe", encoding="utf-8")
    plain = scorer_with(trained).score(talk, window_seconds=3, hop_seconds=3)
    assert {window.missing["text"] for window in plain.windows} == {"the transcript has no times"}
    found = scorer_with(trained, align=str(ctc)).score(talk, window_seconds=3, hop_seconds=3)
    assert " ".join(filter(None, (window.text for window in found.windows))) == "yes no maybe"
    assert sum(window.modalities["text"].steps for window in found.windows) == 3


def test_transcripts_are_saved_where_asked(whisper: Path, talk: Path, tmp_path: Path) -> None:
    source = WordSource(WordOptions(str(whisper), "en", save=tmp_path / "made"))
    found, _ = source.find(talk, Transcript(), (None, None))
    saved = read_transcript(saved_path(tmp_path / "made", talk, (None, None)))
    assert [one.text for one in saved.segments] == [one.text for one in found.segments] == ["yes no", "maybe"]
    for ours, theirs in zip(found.segments, saved.segments, strict=True):
        assert [w.start_seconds for w in theirs.words] == pytest.approx([w.start_seconds for w in ours.words], abs=1e-3)
    assert not talk.with_suffix(".vtt").exists()
    with pytest.raises(UsageError, match="--save-transcripts keeps what --transcribe or --align makes"):
        WordOptions(save=tmp_path).over(WordOptions())


def test_a_batch_s_rows_depend_on_how_words_were_made(trained: Trained, whisper: Path, talk: Path) -> None:
    plain = Recipe(trained.run.bundle, Timeline(3.0), True)
    heard = Recipe(trained.run.bundle, Timeline(3.0), True, words=WordOptions(str(whisper), "en"))
    item = Input(str(talk))
    ((_, first),), ((_, second),) = open_items([item], plain), open_items([item], heard)
    assert first != second
    ((_, row),) = score_batch([(item, second)], heard)
    assert row.error is None
    assert row.options == heard.options
    assert row.windows[0].text == "yes no"
    import jsonschema

    schema = json.loads((Path(__file__).parents[2] / "mmsa" / "scoring" / "schema.json").read_text("utf-8"))
    jsonschema.validate(row.to_dict(), schema)


def test_a_language_that_an_extractor_does_not_suit_is_noted(trained: Trained, talk: Path) -> None:
    def notes(**words: str) -> list[str]:
        scorer = scorer_with(trained, **words)
        scorer.extractors["text"].languages = ("en",)
        scorer.extractors["text"].spec = ExtractorSpec("small", "none", "1", {})
        return [note for note in scorer.score(talk, text="so").notes if "made for" in note]

    (told,) = notes(language="German")
    assert told.startswith("small is made for en, and the language is de")
    assert notes() == notes(language="en") == []


def test_models_that_cannot_be_had_are_known_before_anything_is_scored(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whisper: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match=r"openai/whisper-none: .*put them in one folder and give its path as model"):
        scorer_with(trained, transcribe="openai/whisper-none")
    with pytest.raises(UsageError, match="no such folder; give the local folder"):
        scorer_with(trained, align=str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="language must be a code such as 'en'"):
        scorer_with(trained, transcribe=str(whisper), language="klingon")


def test_timed_transcripts_are_left_alone(ctc: Path, tmp_path: Path) -> None:
    timed = Transcript((Segment("so", 0.0, 1.0), Segment("be it")))
    assert WordSource(WordOptions(align=str(ctc))).find(tmp_path / "none.wav", timed, (None, None)) == (timed, ())


def test_features_of_a_folder_hold_the_words_that_were_recognised(
    whisper: Path, talk: Path, tmp_path: Path, small: ModuleType
) -> None:
    from mmsa.features.files import extract_files, read_features

    extractors = {"text": small.WordLengths()}
    heard = WordOptions(str(whisper), "en")

    def run(words: WordOptions | None) -> tuple[list[float], bool]:
        (made,) = extract_files([talk], talk.parent, tmp_path / "out", extractors, jobs=1, words=words)
        sequences, about = read_features(made.output)
        assert any("recognised" in note for note in about["notes"]) == (words is not None)
        return sequences["text"].values[:, 0].tolist(), made.kept

    assert run(heard) == ([3.0, 2.0, 5.0], False)  # yes no maybe
    assert run(heard) == ([3.0, 2.0, 5.0], True)
    assert run(None) == ([], False)
