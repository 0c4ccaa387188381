from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsa.corpora.mmsa_pickle import import_pickle
from mmsa.features import open_table

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


def sequences(folder: Path, modality: str) -> list[Any]:
    table = open_table(folder / "features" / modality)
    return [table.sequence(i).values for i in range(4)]


@pytest.mark.parametrize("lengths", [True, False])
def test_padding_on_either_side_gives_the_same_sequences(write: Write, tmp_path: Path, lengths: bool) -> None:
    """MulT's files are padded on the left, MMSA's on the right."""
    rng = np.random.default_rng(0)
    clips = [rng.uniform(1, 2, (n, 3)).astype(np.float32) for n in (5, 9)]
    for side in ("left", "right"):
        padded = np.zeros((2, 12, 3))
        for row, clip in zip(padded, clips, strict=True):
            row[slice(0, len(clip)) if side == "right" else slice(12 - len(clip), 12)] = clip
        made = import_pickle(
            write(small(audio=padded, **({"audio_lengths": [5, 9]} if lengths else {}))), tmp_path / side
        )
        report = made.modalities["audio"]
        assert (report.padding, report.lengths) == (side, "audio_lengths" if lengths else "zeros")
        assert all(np.array_equal(a, b) for a, b in zip(sequences(made.folder, "audio"), clips * 2, strict=True))


def test_the_text_s_mask_tells_its_length_and_not_what_bert_says_of_padding(write: Write, tmp_path: Path) -> None:
    bert = np.zeros((2, 3, 4))
    bert[0, 1, :2], bert[1, 1, :3] = 1, 1
    text = np.arange(1.0, 9.0).reshape(2, 4, 1)
    made = import_pickle(write(small(text=text, text_bert=bert)), tmp_path / "made")
    assert [s[:, 0].tolist() for s in sequences(made.folder, "text")[:2]] == [[1, 2], [5, 6, 7]]
    assert made.modalities["text"].lengths == "text_bert"


def test_aligned_audio_is_as_long_as_its_text(write: Write, tmp_path: Path) -> None:
    """The first and last word piece have zeros for sound, which would be cut off without the text's mask."""
    bert = np.zeros((2, 3, 4))
    bert[0, 1, :4], bert[1, 1, :3] = 1, 1
    audio = np.zeros((2, 4, 1))
    audio[0, 1:3], audio[1, 1:2] = 7, 8
    made = import_pickle(write(small(audio=audio, text_bert=bert)), tmp_path / "aligned")
    assert [s[:, 0].tolist() for s in sequences(made.folder, "audio")[:2]] == [[0, 7, 7, 0], [0, 8, 0]]


def test_zeros_inside_a_clip_stay_and_clips_of_zeros_lack_the_modality(write: Write, tmp_path: Path) -> None:
    data = small()
    data["test"]["audio"] = np.zeros((2, 4, 1))
    data["test"]["audio"][1, 0] = 9
    made = import_pickle(write(data), tmp_path / "made")
    assert [s[:, 0].tolist() for s in sequences(made.folder, "audio")] == [[1, 0, 3], [4, 5], [], [9]]
    assert open_table(made.folder / "features" / "audio").missing == {"c$_$0": "only zeros in the imported file"}
    assert made.modalities["audio"].missing == 1
    assert "audio: 1 clips hold only zeros and count as missing" in made.notes


def test_infinite_values_are_read_as_zero_and_counted(write: Write, tmp_path: Path) -> None:
    audio = np.full((2, 3, 2), -np.inf)
    audio[0, :2] = [[1, -np.inf], [np.nan, 1e300]]
    made = import_pickle(write(small(audio=audio, audio_lengths=[2, 1])), tmp_path / "made")
    assert sequences(made.folder, "audio")[0].tolist() == [[1, 0], [0, 0]]
    # three of the first clip and the two of the second clip's only step; the steps beyond the lengths are padding
    assert made.modalities["audio"].not_finite == 2 * 3
    assert made.modalities["audio"].missing == 2
    assert "audio: 6 values were infinite or undefined and are read as 0" in made.notes


def test_data_beyond_their_length_are_kept_and_counted(write: Write, tmp_path: Path) -> None:
    made = import_pickle(write(small(audio_lengths=[1, 2])), tmp_path / "made")
    assert [s[:, 0].tolist() for s in sequences(made.folder, "audio")[:2]] == [[1, 0, 3], [4, 5]]
    assert made.modalities["audio"].corrected == 2


def test_the_side_can_be_given_where_no_clip_tells(write: Write, tmp_path: Path) -> None:
    data = small(audio=np.ones((2, 4, 1)))
    assert import_pickle(write(data), tmp_path / "a").modalities["audio"].padding == "unknown"
    assert import_pickle(write(data), tmp_path / "b", padding="left").modalities["audio"].padding == "left"


def test_ragged_lists_and_single_vectors_are_read(write: Write, tmp_path: Path) -> None:
    ragged = [np.zeros((2, 1)) + 1, np.zeros((3, 1)) + 2]
    vectors = np.array([[1.0, 2.0], [3.0, 4.0]])
    made = import_pickle(write(small(audio=ragged, vision=vectors)), tmp_path / "made")
    assert [s.tolist() for s in sequences(made.folder, "audio")[:2]] == [[[1], [1]], [[2], [2], [2]]]
    assert [s.tolist() for s in sequences(made.folder, "vision")[:2]] == [[[1, 2]], [[3, 4]]]
