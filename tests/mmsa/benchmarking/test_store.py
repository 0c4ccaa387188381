from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmsa.benchmarking.store import (
    Result,
    SplitPredictions,
    digest_of,
    find_run,
    identity_of,
    load_result,
    run_folder,
    same_settings,
    save_run,
    settings_of,
    write_atomically,
)
from mmsa.config import make_config
from mmsa.corpora.clip import Clip, Corpus
from mmsa.errors import UsageError
from mmsa.recipe import HeadEntry
from mmsa.tasks import Regression

TASK = Regression("sentiment", -3, 3, "mosi")


def predictions(shift: float = 0.0) -> SplitPredictions:
    values = np.arange(3, dtype=np.float32)[:, None] + np.float32(shift)
    return SplitPredictions(
        ("a/1", "b", "ü"),
        {"sentiment": np.array([1, np.nan, -2], np.float32)},
        {"sentiment": values},
        {"audio": {"sentiment": -values}, "audio+text": {"sentiment": 2 * values}},
    )


def test_predictions_come_back_as_they_were(tmp_path: Path) -> None:
    predictions().save(tmp_path / "test.npz")
    found = SplitPredictions.load(tmp_path / "test.npz")
    assert found.clips == ("a/1", "b", "ü")
    assert np.array_equal(found.labels["sentiment"], predictions().labels["sentiment"], equal_nan=True)
    assert np.array_equal(found.outputs["sentiment"], [[0], [1], [2]])
    assert {key: own["sentiment"].ravel().tolist() for key, own in found.subsets.items()} == {
        "audio": [0, -1, -2],
        "audio+text": [0, 2, 4],
    }


def test_the_archive_holds_nothing_that_could_run(tmp_path: Path) -> None:
    predictions().save(tmp_path / "test.npz")
    with np.load(tmp_path / "test.npz", allow_pickle=False) as data:
        assert all(data[key].dtype.kind in "fU" for key in data.files)


SETTINGS = {"name": "late", "epochs": 7}


def test_a_training_comes_back_and_is_found_by_its_settings(tmp_path: Path, result: Result) -> None:
    folder = run_folder(tmp_path, "late", "made", 1, SETTINGS, "i")
    assert load_result(folder) is None
    save_run(folder, result, predictions(), predictions(1))
    assert load_result(folder) == result
    assert SplitPredictions.load(folder / "test.npz").outputs["sentiment"][0, 0] == 1
    assert find_run(tmp_path, "late", "made", 1, SETTINGS) == folder
    assert find_run(tmp_path, "late", "made", 1, SETTINGS, "i") == folder
    other = {"name": "late", "epochs": 8}
    for place in (
        ("late", "made", 2, SETTINGS), ("late", "made", 1, other), ("early", "made", 1, SETTINGS),
        ("late", "b", 1, SETTINGS), ("late", "made", 1, SETTINGS, "j"),
        ("late", "made", None, SETTINGS),  # a training with a seed is not mistaken for one without
    ):  # fmt: skip
        assert find_run(tmp_path, *place) is None, place


def test_the_newest_of_several_features_is_reported(tmp_path: Path, result: Result) -> None:
    folders = [run_folder(tmp_path, "late", "made", 1, SETTINGS, identity) for identity in "ij"]
    for folder, identity in zip(folders, "ij", strict=True):
        save_run(folder, replace(result, identity=identity), predictions(), predictions())
    os.utime(folders[0], (2e9, 2e9))
    assert find_run(tmp_path, "late", "made", 1, SETTINGS) == folders[0]
    assert find_run(tmp_path, "late", "made", 1, SETTINGS, "j") == folders[1]


def test_a_setting_that_was_not_there_yet_had_its_default() -> None:
    kept = {"name": "late", "epochs": 7}
    assert same_settings(kept, {**kept, "batch_size": 32})
    assert not same_settings(kept, {**kept, "batch_size": 64})
    assert not same_settings({**kept, "batch_size": 64}, {**kept, "batch_size": 32})
    assert not same_settings({**kept, "gone": 1}, kept)


def test_what_is_there_is_not_overwritten(tmp_path: Path, result: Result) -> None:
    save_run(tmp_path / "run", result, predictions(), predictions())
    save_run(tmp_path / "run", replace(result, epochs=99), predictions(), predictions())
    assert load_result(tmp_path / "run") == result
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_half_a_training_is_none(tmp_path: Path, result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while the second archive is written: nothing is left that reads as a training."""

    def save(self: SplitPredictions, path: Path) -> None:
        if path.name == "test.npz":
            raise KeyboardInterrupt
        path.touch()

    monkeypatch.setattr(SplitPredictions, "save", save)
    with pytest.raises(KeyboardInterrupt):
        save_run(tmp_path / "runs" / "late" / "made-seed1-i", result, predictions(), predictions())
    assert find_run(tmp_path, "late", "made", 1, SETTINGS) is None
    assert list((tmp_path / "runs" / "late").iterdir()) == []


def test_another_version_is_refused(tmp_path: Path, result: Result) -> None:
    save_run(tmp_path / "run", result, predictions(), predictions())
    path = tmp_path / "run" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(UsageError, match="written by another version of mmsa"):
        load_result(tmp_path / "run")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "x" / "a.txt") as file:
        file.write("old")

    def half() -> None:
        with write_atomically(tmp_path / "x" / "a.txt") as file:
            file.write("new, but")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert (tmp_path / "x" / "a.txt").read_text() == "old"
    assert len(list((tmp_path / "x").iterdir())) == 1


LATE = HeadEntry(head="late")  # type: ignore[call-arg]
SVM = HeadEntry(head="svm", options={"costs": [1]})  # type: ignore[call-arg]


def test_settings_hold_all_that_changes_a_number_and_nothing_else() -> None:
    base = settings_of(LATE, make_config(None, {"seed": 1}))
    same = {"device": "cpu", "jobs": 3, "experiment": "x", "root": "/elsewhere", "checkpoints": False}
    assert settings_of(LATE, make_config(None, {"seed": 1, **same})) == base
    for key, value in {"seed": 2, "epochs": 7, "head.hidden_dim": 3, "extractors.text.name": "other"}.items():
        assert settings_of(LATE, make_config(None, {"seed": 1, key: value})) != base, key
    assert digest_of(base) != digest_of(settings_of(LATE, make_config(None, {"seed": 2})))


def test_a_head_without_epochs_or_seed_does_not_depend_on_them() -> None:
    base = settings_of(SVM, make_config(None, {"seed": 1}))
    assert settings_of(SVM, make_config(None, {"seed": 2, "epochs": 3, "learning_rate": 0.5})) == base
    assert settings_of(SVM, make_config(None, {"modalities": ["text"]})) != base
    assert settings_of(HeadEntry(head="svm"), make_config(None, {"seed": 1})) != base  # type: ignore[call-arg]


def test_the_identity_changes_with_clips_labels_splits_and_features() -> None:
    def identity(prints: dict[str, str] | None = None, **changes: object) -> str:
        clip = Clip("a", "train", {"sentiment": 1.0}, transcript="well", speaker="s")
        corpus = Corpus("made", (replace(clip, **changes),), (TASK,))  # type: ignore[arg-type]
        return identity_of(corpus, prints or {"text": "f1"})

    base = identity()
    assert identity(speaker="t") == base  # a report looks at the speaker, a training does not
    changed = [
        identity({"text": "f2"}),
        identity(id="b"),
        identity(split="valid"),
        identity(labels={"sentiment": 2.0}),
        identity(transcript="ill"),
        identity(start_seconds=1.0),
    ]
    assert len({base, *changed}) == 7
