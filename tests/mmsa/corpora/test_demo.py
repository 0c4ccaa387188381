from collections import Counter

import numpy as np
import pytest

from mmsa.corpora import demo
from mmsa.corpora.demo import load_demo
from mmsa.tasks import MELD_EMOTIONS


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    return root, load_demo(root=root, clips_per_speaker=1, progress=False)


def naive_emotion(sentiment, arousal, brow):
    """The rule of `mmsa.demo.script`, written as a table of cases."""
    if -0.75 < sentiment < 0.75:
        return "surprise" if min(arousal, brow) > 0.25 else "neutral"
    if sentiment >= 0.75:
        return "surprise" if min(arousal, brow) > 0.25 else "joy"
    table = {(True, True): "fear", (True, False): "anger", (False, True): "sadness", (False, False): "disgust"}
    return table[arousal > 0, brow > 0]


def test_labels_follow_from_the_attributes(loaded):
    for clip in loaded[1].clips:
        text, voice, face, arousal, brow = (
            float(clip.attributes[name])
            for name in ("text_valence", "voice_valence", "face_valence", "voice_arousal", "face_brow")
        )
        sentiment = min(3.0, max(-3.0, (text + voice + face) / 2))
        assert clip.labels["sentiment"] == pytest.approx(sentiment, abs=1e-4)
        assert clip.labels["emotion"] == naive_emotion(sentiment, arousal, brow)
        opposed = max(text, voice, face) >= 0.75 and min(text, voice, face) <= -0.75
        assert clip.attributes["congruent"] == ("no" if opposed else "yes")


def test_no_speaker_is_in_two_splits(loaded):
    pairs = {(clip.speaker, clip.split) for clip in loaded[1].clips}
    assert len(pairs) == len({clip.speaker for clip in loaded[1].clips}) == 20
    assert Counter(split for _, split in pairs) == {"train": 12, "valid": 4, "test": 4}


def test_every_clip_has_media_and_words(loaded):
    for clip in loaded[1].clips:
        assert clip.media.is_file()
        assert clip.transcript
        assert (clip.start_seconds, clip.end_seconds) == (None, None)


def test_tasks_and_note(loaded):
    sentiment, emotion = loaded[1].tasks
    assert (sentiment.name, sentiment.low, sentiment.high, sentiment.metrics) == ("sentiment", -3.0, 3.0, "mosi")
    assert emotion.classes == MELD_EMOTIONS
    assert "never results about people" in loaded[1].note


def test_loading_again_renders_nothing_and_gives_the_same_corpus(loaded):
    root, corpus = loaded
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert load_demo(root=root, clips_per_speaker=1, progress=False) == corpus
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.fixture
def unrendered(monkeypatch):
    """Labels and paths without the videos."""
    monkeypatch.setattr(demo, "_render", lambda *args: None)


def test_the_whole_corpus_is_balanced_over_splits_and_signs(unrendered, tmp_path):
    corpus = load_demo(root=tmp_path)
    assert {name: len(corpus.split(name)) for name in ("train", "valid", "test")} == {
        "train": 192,
        "valid": 64,
        "test": 64,
    }
    for name in ("train", "valid", "test"):
        assert {clip.labels["emotion"] for clip in corpus.split(name)} == set(MELD_EMOTIONS)
        assert 0.3 < np.mean([clip.labels["sentiment"] > 0 for clip in corpus.split(name)]) < 0.6


def test_seeds_change_what_is_said_and_not_who_says_it(unrendered, tmp_path):
    one, other = load_demo(0, tmp_path), load_demo(1, tmp_path)
    assert [(c.id, c.speaker, c.split) for c in one.clips] == [(c.id, c.speaker, c.split) for c in other.clips]
    assert sum(a.labels == b.labels for a, b in zip(one.clips, other.clips, strict=True)) < 20
    assert not {c.media for c in one.clips} & {c.media for c in other.clips}


def test_videos_are_kept_in_the_users_cache(unrendered, monkeypatch, tmp_path):
    monkeypatch.setenv("MMSA_CACHE", str(tmp_path))
    assert load_demo().clips[0].media.parent.parent == tmp_path / "demo"


def test_refuses_an_impossible_corpus(tmp_path):
    with pytest.raises(ValueError, match="seed must be 0 or more, not -3"):
        load_demo(-3, tmp_path)
    with pytest.raises(ValueError, match="clips_per_speaker must be 1 or more, not 0"):
        load_demo(0, tmp_path, 0)
