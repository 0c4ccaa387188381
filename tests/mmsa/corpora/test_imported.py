from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from extractors.sequence import FeatureSequence
from mmsa.corpora import load_corpus
from mmsa.corpora.clip import Clip
from mmsa.corpora.imported import (
    ClipRow,
    Imported,
    ModalityReport,
    checked_name,
    corpus_folder,
    write_corpus,
    write_sequences,
)
from mmsa.errors import UsageError
from mmsa.precomputed import open_precomputed, precomputed_spec
from mmsa.tasks import Label, MultiLabel, Regression

TASKS = (Regression("sentiment", -3.0, 3.0, "mosi"), MultiLabel("signs", ("smile", "nod")))


def sequence(count: int) -> FeatureSequence:
    times = 7.5 + np.stack([np.arange(count), np.arange(count) + 0.25], axis=1)
    return FeatureSequence(np.ones((count, 2), np.float32), times, ("a", "b"))


def test_what_is_written_is_read_as_a_corpus(tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    labels: dict[str, Label] = {"sentiment": -1 / 3, "signs": ("nod", "smile")}
    rows = [
        ClipRow("a", "train", labels, dialogue="d", turn="3", transcript='so, "yes"', speaker="Ann", media=str(video)),
        ClipRow("b", "test", {"signs": ()}, attributes={"camera": "2"}),
    ]
    with corpus_folder(tmp_path / "made") as partial:
        spec = precomputed_spec("made.bin", "0" * 64)
        clips = [("a", sequence(2), ""), ("b", sequence(0), "silence")]
        write_sequences(partial / "features" / "audio", spec, ("a", "b"), iter(clips))
        write_corpus(partial, "mine", "Staged.", TASKS, rows, ["audio"])
        assert not (tmp_path / "made").exists()
    corpus = load_corpus(str(tmp_path / "made"))
    assert (corpus.name, corpus.note, corpus.tasks, corpus.default_tasks) == ("mine", "Staged.", TASKS, ("sentiment",))
    assert corpus.clips == (
        Clip("a", "train", labels, video, 'so, "yes"', speaker="Ann", dialogue="d", turn=3),
        Clip("b", "test", {"signs": ()}, attributes={"camera": "2"}),
    )
    table = open_precomputed(corpus, "audio")
    assert table.sequence(0).times.tolist() == [[7.5, 7.75], [8.5, 8.75]]
    assert dict(table.missing) == {"b": "silence"}
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o755


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), corpus_folder(tmp_path / "new" / "made") as partial:
        (partial / "clips.csv").touch()
        raise KeyboardInterrupt
    assert list((tmp_path / "new").iterdir()) == []


def test_what_killed_imports_left_is_cleared_away_after_a_day(tmp_path: Path) -> None:
    for name, age in ((".made-abcdefgh", 2 * 86400), (".made-ijklmnop", 3600), (".other-abcdefgh", 2 * 86400)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with corpus_folder(tmp_path / "made"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".made-ijklmnop", ".other-abcdefgh", "made"]


def test_a_corpus_has_a_name_and_a_place_of_its_own(tmp_path: Path) -> None:
    assert checked_name(None, tmp_path / "my-mosi_2.0") == "my-mosi_2.0"
    assert checked_name("other", tmp_path / "x y") == "other"
    with pytest.raises(UsageError, match=r"is made of letters, digits, .* not 'x y'"):
        checked_name(None, tmp_path / "x y")
    with pytest.raises(UsageError, match="is there already: choose another folder, or delete it"):
        checked_name(None, tmp_path)


def test_a_report_is_json(tmp_path: Path) -> None:
    report = ModalityReport(2, 5, "none", "intervals", 3, 1, 0, 4)
    made = Imported(tmp_path, "mine", {"train": 4}, TASKS, {"audio": report}, ("so",))
    row = json.loads(json.dumps(made.to_dict()))
    assert row["modalities"]["audio"]["not_finite"] == 4
    assert row["tasks"][1] == {"kind": "multi-label", "name": "signs", "classes": ["smile", "nod"]}
