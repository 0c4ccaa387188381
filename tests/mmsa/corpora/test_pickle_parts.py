from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsa.corpora.pickle_parts import read_parts
from mmsa.errors import UsageError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(data: Any) -> Path:
        path = tmp_path / "features.pkl"
        path.write_bytes(pickle.dumps(data, 4))
        return path

    return written


def small(**changes: Any) -> dict[str, Any]:
    """Two splits of two clips, with one modality and a step of zeros inside the first."""
    audio = np.zeros((2, 4, 1))
    audio[0, :3, 0], audio[1, :2, 0] = [1, 0, 3], [4, 5]
    one = {"audio": audio, "regression_labels": [2.5, -1.0], "id": ["a$_$0", "b$_$1"], **changes}
    return {"train": one, "test": {**one, "id": ["c$_$0", "c$_$1"]}}


def test_a_split_is_read_as_it_lies_in_the_file(write: Write) -> None:
    data = small(
        raw_text=np.array(["  so ", b"no"], object), audio_lengths=[3, 2], text_bert=np.ones((2, 3, 4)), note="x"
    )
    data["train"]["regression_labels_T"] = data["test"]["regression_labels_T"] = np.array([[0.5], [np.nan]])
    (train, test), ignored = read_parts(write({**data, "config": {}, "valid": {"regression_labels": [], "id": []}}))
    assert ignored == {"config", "note"}
    assert (train.split, test.split) == ("train", "test")
    assert (train.ids, train.transcripts) == (["a$_$0", "b$_$1"], ["so", "no"])
    assert train.labels["sentiment"].tolist() == [2.5, -1.0]
    assert train.labels["sentiment_text"].tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    assert [clip[:, 0].tolist() for clip in train.features["audio"]] == [[1, 0, 3, 0], [4, 5, 0, 0]]
    assert train.lengths["audio"].tolist() == [3, 2]
    assert train.mask is not None
    assert train.mask.tolist() == [[True] * 4] * 2


def test_clips_without_ids_are_numbered(write: Write) -> None:
    one = {"labels": np.array([[[1.0]], [[-1.0]]]), "audio": np.ones((2, 3, 1))}
    parts, _ = read_parts(write({"train": one, "test": one}))
    assert [part.ids for part in parts] == [["train_0", "train_1"], ["test_0", "test_1"]]
    assert parts[0].labels["sentiment"].tolist() == [1.0, -1.0]


def test_all_problems_are_named_at_once(write: Write) -> None:
    data = small()
    data["train"]["raw_text"] = ["so"]
    data["train"]["audio_lengths"] = [1, 2, 3]
    data["test"]["audio"] = np.array([["a"], ["b"]])
    data["valid"] = {"audio": np.ones((1, 1, 1))}
    with pytest.raises(UsageError, match="not of MMSA's or MultiBench's layout") as caught:
        read_parts(write(data))
    assert "train: there are 2 labels, but raw_text has 1, audio_lengths has 3" in str(caught.value)
    assert "test: audio must be (N, L, D) numbers, not (2, 1) <U1" in str(caught.value)
    assert "valid has no labels: neither regression_labels nor labels" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1, 2], "holds a list, not a feature file"),
        ({"audio": np.ones((3, 2)), "text_bert": np.ones((3, 4))}, "holds one clip without a split"),
        ({"features": 1}, "holds no split"),
        (
            {"train": small()["train"], "test": {**small()["test"], "audio": np.ones((2, 4, 3))}},
            "audio must have as many features in every split: train 1, test 3",
        ),
        ({"train": {**small()["train"], "text_bert": np.ones((2, 4))}}, r"text_bert must be \(N, 3, L\) numbers"),
        ({"train": {"regression_labels": []}}, "no clips"),
    ],
)
def test_other_layouts_are_refused(write: Write, data: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_parts(write(data))
