from __future__ import annotations

from pathlib import Path

import pytest

from mmsa.benchmarking.facts import ClipFacts, corpus_facts, load_facts, save_facts
from mmsa.corpora.clip import Clip, Corpus
from mmsa.tasks import Classification, Regression

TASKS = (
    Regression("sentiment", -1, 1, "sims"),
    Regression("sentiment_text", -1, 1, "sims"),
    Regression("sentiment_audio", -1, 1, "sims"),
    Classification("emotion_text", ("a", "b")),
)


def facts_of(**own: object) -> ClipFacts:
    labels = own.pop("labels", {})
    clips = [Clip("a", "test", labels, **own), Clip("b", "train", {})]  # type: ignore[arg-type]
    return corpus_facts(Corpus("made", tuple(clips), TASKS)).clips["a"]


def test_only_the_test_split_is_described_and_nothing_that_is_said() -> None:
    clips = (Clip("a", "test", {}, transcript="a secret", speaker="s", dialogue="d"), Clip("b", "train", {}))
    found = corpus_facts(Corpus("made", clips, TASKS, note="Read me."))
    assert found.counts == {"train": 1, "valid": 0, "test": 1}
    assert (found.note, dict(found.clips)) == ("Read me.", {"a": ClipFacts("s", "d", 2)})
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("transcript", "words"), [("So good!", 2), ("很好啊", 3), ("café", 1), (None, None), ("", None)]
)
def test_words_are_counted_and_characters_where_there_are_no_words(transcript: str | None, words: int | None) -> None:
    assert facts_of(transcript=transcript).words == words


def test_seconds_need_both_ends() -> None:
    assert facts_of(start_seconds=1.0, end_seconds=3.5).seconds == 2.5
    assert facts_of(start_seconds=1.0).seconds is None


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"sentiment_text": 0.4, "sentiment_audio": -0.2}, False),
        ({"sentiment_text": 0.4, "sentiment_audio": 0.2}, True),
        ({"sentiment_text": 0.0, "sentiment_audio": -0.2}, True),
        ({"sentiment_text": 0.4}, None),  # one modality alone contradicts nobody
        ({"sentiment": -0.4, "sentiment_text": 0.4}, None),  # the clip's own label is no modality's
        ({"emotion_text": "a", "sentiment_text": 0.4}, None),
    ],
)
def test_congruence_from_the_labels_of_single_modalities(labels: dict[str, object], expected: bool | None) -> None:
    assert facts_of(labels=labels).congruent is expected


def test_congruence_as_the_corpus_says_it() -> None:
    labels = {"sentiment_text": 0.4, "sentiment_audio": 0.2}
    assert facts_of(labels=labels, attributes={"congruent": "no"}).congruent is False
    assert facts_of(attributes={"congruent": "yes"}).congruent is True


def test_attributes_that_sort_the_clips_are_kept_and_those_that_tell_of_each_are_not() -> None:
    def clip(number: int) -> Clip:
        own = {"setting": "improvised" if number % 3 else "scripted", "context": f"what was said before {number}"}
        return Clip(f"clip{number}", "test", {}, attributes=own)

    found = corpus_facts(Corpus("made", tuple(clip(number) for number in range(21)), TASKS)).clips
    assert found["clip0"].attributes == {"setting": "scripted"}
    assert found["clip1"].attributes == {"setting": "improvised"}
    few = corpus_facts(Corpus("made", tuple(clip(number) for number in range(20)), TASKS)).clips
    assert set(few["clip0"].attributes) == {"setting", "context"}


def test_facts_come_back(tmp_path: Path) -> None:
    clips = (Clip("a", "test", {}, transcript="x", speaker="é", attributes={"k": "v"}), Clip("b", "test", {}))
    facts = corpus_facts(Corpus("made", clips, TASKS))
    assert load_facts(tmp_path, "made") is None
    save_facts(tmp_path, "folder/of/made.csv", facts)
    assert load_facts(tmp_path, "folder/of/made.csv") == facts
