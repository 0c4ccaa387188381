from __future__ import annotations

from typing import Any

import pytest

from mmsa.corpora.clip import SPLITS, Clip, Corpus
from mmsa.tasks import Classification, Regression

TASKS = (Regression("sentiment", -1, 1), Classification("emotion", ("calm", "glad")))


def test_splits_keep_the_order_of_the_corpus() -> None:
    clips = (Clip("d", "test", {}), Clip("c", "train", {}), Clip("b", "test", {}), Clip("a", "train", {}))
    corpus = Corpus("made", clips, TASKS)
    assert [clip.id for clip in corpus.split("test")] == ["d", "b"]
    assert [clip.id for clip in corpus.split("train")] == ["c", "a"]
    assert corpus.split("valid") == ()
    assert sum(len(corpus.split(split)) for split in SPLITS) == len(clips)


def test_an_unknown_split_is_refused() -> None:
    corpus = Corpus("made", (Clip("a", "train", {}),), TASKS)
    with pytest.raises(ValueError, match=r"split must be one of \('train', 'valid', 'test'\), not 'dev'"):
        corpus.split("dev")  # type: ignore[arg-type]


def test_a_clip_may_carry_any_part_of_the_labels() -> None:
    labels: list[dict[str, float | str]] = [{}, {"sentiment": 1.0}, {"emotion": "glad", "sentiment": -1.0}]
    Corpus("made", tuple(Clip(str(i), "train", own) for i, own in enumerate(labels)), TASKS)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([], "corpus 'made' has no clips"),
        ([{"id": "x"}, {"id": "y"}, {"id": "x"}], "clip ids must be unique; given twice: x$"),
        ([{"split": "dev"}], "clip 'a': split must be one of .* not 'dev'"),
        ([{"labels": {"mood": 1.0}}], r"clip 'a': label for 'mood', but the tasks are \['emotion', 'sentiment'\]"),
        ([{"labels": {"sentiment": 1.1}}], r"sentiment must lie in \[-1, 1\], not 1.1"),
        ([{"labels": {"sentiment": float("nan")}}], "not nan"),
        ([{"labels": {"emotion": "sad"}}], "emotion must be one of calm, glad, not 'sad'"),
    ],
)
def test_a_corpus_that_contradicts_itself_is_refused(clips: list[dict[str, Any]], message: str) -> None:
    made = tuple(Clip(**{"id": "a", "split": "train", "labels": {}, **clip}) for clip in clips)
    with pytest.raises(ValueError, match=message):
        Corpus("made", made, TASKS)


def test_default_tasks_must_be_tasks_of_the_corpus() -> None:
    clips = (Clip("a", "train", {}),)
    assert Corpus("made", clips, TASKS, default_tasks=("emotion",)).default_tasks == ("emotion",)
    with pytest.raises(
        ValueError, match=r"default tasks \['mood'\] must be among the tasks \['emotion', 'sentiment'\]"
    ):
        Corpus("made", clips, TASKS, default_tasks=("mood",))
