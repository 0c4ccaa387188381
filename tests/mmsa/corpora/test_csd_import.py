from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.check import check
from mmsa.corpora.csd_import import import_csd
from mmsa.corpora.mosei import EMOTIONS
from mmsa.errors import UsageError
from mmsa.precomputed import open_precomputed
from mmsa.tasks import Regression

SENTIMENT = Regression("sentiment", -3.0, 3.0, "mosi")
VIDEOS = ("tra_in1", "-train2", "valid1", "test")
FOLDS = {"train": ["tra_in1", "-train2"], "valid": ["valid1"], "test": ["test"]}


def track(start: float, step: float, count: int, width: int) -> Any:
    """Features whose first column is the time at which each step begins."""
    begins = start + step * np.arange(count)
    return np.repeat(begins[:, None], width, axis=1), np.stack([begins, begins + step], axis=1)


@pytest.fixture
def source(csd: Any, tmp_path: Path) -> Path:
    """Four videos of ten seconds with two clips each, from 1 s to 4 s and from 4 s to 6.5 s."""
    folder = tmp_path / "sdk"
    folder.mkdir()
    labels, said, audio, vision, glove = {}, {}, {}, {}, {}
    for number, video in enumerate(VIDEOS):
        emotions = [[-1.5, 0, 0.3333, 0, 0, 2, 0], [number / 2, 0, 0, 0, 0, 0, 0]]
        labels[video] = (np.array(emotions), [[1.0, 4.0], [4.0, 6.5]])
        said[video] = csd.words(("sp", 0.0, 1.2), ("so", 1.2, 1.8), ("good", 3.8, 4.1), ("sp", 4.1, 5), (video, 6.0, 7))
        audio[video] = track(0.0, 0.01, 1000, 3)
        vision[video] = track(0.0, 1 / 30, 300, 2)
        glove[video] = track(1.0, 1.0, 6, 4)
    csd.write(folder / "CMU_MOSEI_Labels.csd", "All Labels", labels)
    csd.write(folder / "CMU_MOSEI_TimestampedWords.csd", "words", said)
    csd.write(folder / "CMU_MOSEI_TimestampedWordVectors.csd", "glove_vectors", glove)
    csd.write(folder / "CMU_MOSEI_COVAREP.csd", "COVAREP", audio, compression="gzip")
    csd.write(folder / "CMU_MOSEI_VisualFacet42.csd", "FACET 4.2", vision)
    csd.write(folder / "CMU_MOSEI_TimestampedPhones.csd", "phones", said)
    (folder / "folds.json").write_text(json.dumps(FOLDS), encoding="utf-8")
    return folder


def test_every_labelled_stretch_becomes_a_clip(source: Path, tmp_path: Path) -> None:
    made = import_csd(source, tmp_path / "mosei")
    assert made.clips == {"train": 4, "valid": 2, "test": 2}
    assert made.tasks == (SENTIMENT, EMOTIONS)
    assert made.notes == ("not read: phones (CMU_MOSEI_TimestampedPhones.csd)",)
    corpus = load_corpus(str(tmp_path / "mosei"))
    assert (corpus.name, corpus.tasks, corpus.default_tasks) == ("mosei", (SENTIMENT, EMOTIONS), ("sentiment",))
    for name in ("TimestampedWordVectors", "COVAREP", "VisualFacet42"):
        assert f"CMU_MOSEI_{name}.csd" in corpus.note
    clips = {clip.id: clip for clip in corpus.clips}
    first, second = clips["tra_in1[0]"], clips["tra_in1[1]"]
    assert (first.split, first.dialogue, first.turn) == ("train", "tra_in1", 0)
    assert first.labels == {"sentiment": -1.5, "emotions": ("sad", "disgust")}
    assert second.labels == {"sentiment": 0.0, "emotions": ()}
    assert clips["test[1]"].labels["sentiment"] == 1.5
    # A word on the edge is in both clips, as alignment in the SDK has it.
    assert (first.transcript, second.transcript) == ("so good", "good tra_in1")
    assert first.attributes == {"start_in_video": "1.000", "end_in_video": "4.000"}


def test_the_features_of_a_clip_are_those_within_its_times_and_keep_theirs(source: Path, tmp_path: Path) -> None:
    made = import_csd(source, tmp_path / "mosei")
    corpus = load_corpus(str(tmp_path / "mosei"))
    position = [clip.id for clip in corpus.clips].index("valid1[1]")
    expected = {"audio": (0.01, 3), "vision": (1 / 30, 2), "text": (1.0, 4)}
    for key, (step, width) in expected.items():
        found = open_precomputed(corpus, key).sequence(position)
        begins = np.arange(0.0, 10.0, step) if key != "text" else np.arange(1.0, 7.0)
        inside = [b for b in begins if min(b + step, 6.5) - max(b, 4.0) > 1e-5]
        assert found.values[:, 0] == pytest.approx(np.array(inside), abs=1e-5)
        assert found.values.shape[1] == width
        assert found.times[:, 0] == pytest.approx(np.maximum(inside, 4.0))
        assert found.times[:, 1] == pytest.approx(np.minimum(np.array(inside) + step, 6.5))
        report = made.modalities[key]
        assert (report.features, report.clips, report.missing, report.lengths) == (width, 8, 0, "intervals")
    # 3 s of a hundred steps a second; half a minute of thirtieths has 90, and 3 of one second each.
    assert [made.modalities[key].longest_steps for key in ("audio", "text", "vision")] == [300, 3, 90]


def test_the_folder_passes_the_check_of_corpora(source: Path, tmp_path: Path) -> None:
    import_csd(source, tmp_path / "made")
    findings = check(str(tmp_path / "made")).findings
    # Two emotions alone occur.
    assert {f.kind for f in findings if f.severity == "problem"} == {"label"}
    assert [f.message for f in findings if f.kind == "label"] == [
        "emotions: no clip of train is happy, anger, surprise, fear"
    ]


def test_mosi_s_labels_are_sentiment_alone(csd: Any, source: Path, tmp_path: Path) -> None:
    (source / "CMU_MOSEI_Labels.csd").unlink()
    labels = {video: (np.array([[2.4], [-3.0]]), [[1.0, 4.0], [4.0, 6.5]]) for video in VIDEOS}
    csd.write(source / "CMU_MOSI_Opinion_Labels.csd", "Opinion Segment Labels", labels)
    made = import_csd(source, tmp_path / "mosi")
    assert made.tasks == (SENTIMENT,)
    assert [clip.labels["sentiment"] for clip in load_corpus(str(tmp_path / "mosi")).split("test")] == [2.4, -3.0]


def test_aligned_sequences_have_one_entry_per_stretch(csd: Any, source: Path, tmp_path: Path) -> None:
    """As the SDK deploys a dataset that was aligned to its labels."""
    labels = {f"{v}[{n}]": (np.array([[float(n)]]), [[n * 3.0, n * 3.0 + 3]]) for v in VIDEOS for n in (0, 2)}
    audio = {key: (np.array([[n + 1.0]]), times) for n, (key, (_, times)) in enumerate(labels.items())}
    csd.write(source / "CMU_MOSEI_Labels.csd", "All Labels", labels)
    csd.write(source / "CMU_MOSEI_COVAREP.csd", "COVAREP", audio)
    made = import_csd(source, tmp_path / "aligned")
    corpus = load_corpus(str(made.folder))
    own = [clip for clip in corpus.clips if clip.dialogue == "valid1"]
    assert [(clip.id, clip.turn, clip.labels["sentiment"]) for clip in own] == [
        ("valid1[0]", 0, 0.0),
        ("valid1[2]", 1, 2.0),
    ]
    table = open_precomputed(corpus, "audio")
    assert [table.sequence(corpus.clips.index(clip)).values.tolist() for clip in own] == [[[5]], [[6]]]
    labels["valid1[2]"] = (np.zeros((2, 1)), [[1.0, 2.0], [2.0, 3.0]])
    csd.write(source / "CMU_MOSEI_Labels.csd", "All Labels", labels)
    with pytest.raises(UsageError, match=r"entry valid1\[2\] has 2 labels: one stretch has one"):
        import_csd(source, tmp_path / "other")


def test_what_is_missing_or_no_number_is_counted(csd: Any, source: Path, tmp_path: Path) -> None:
    """A video without a split, one without sound, infinite values, silence, labels and times that are none."""
    spoilt = np.full((10, 3), 2.0)
    spoilt[2, 0], spoilt[3] = -np.inf, np.nan
    audio = {
        "-train2": csd.steps(spoilt, 1.0, 0.5),
        "valid1": track(0, 1, 3, 3),
        "test": (np.zeros((9, 3)), track(0, 1, 9, 3)[1]),
    }
    csd.write(source / "CMU_MOSEI_COVAREP.csd", "COVAREP", audio)
    with h5py.File(source / "CMU_MOSEI_Labels.csd", "a") as file:
        data = file["All Labels/data"]
        data["-train2/features"][1] = np.nan
        data["test/intervals"][1] = [5.0, 4.0]
        data.copy("valid1", "unknown")
    made = import_csd(source, tmp_path / "made")
    assert made.clips == {"train": 4, "valid": 2, "test": 1}
    notes = " | ".join(made.notes)
    assert "2 clips of 1 videos (unknown, …) are in no split and were left out" in notes
    assert "1 labels have times that end before they start" in notes
    assert "1 clips have labels that are no numbers and count as unlabelled" in notes
    # Of the steps at 1.0, 1.5 … 5.5 s, the third (one value) and the fourth (all three) are in the first clip.
    assert "audio: 4 values were infinite or undefined and are read as 0" in notes
    corpus = load_corpus(str(made.folder))
    table = open_precomputed(corpus, "audio")
    position = {clip.id: i for i, clip in enumerate(corpus.clips)}
    assert table.sequence(position["-train2[0]"]).values[:, 0].tolist() == [2, 2, 0, 0, 2, 2]
    assert dict(corpus.clips[position["-train2[1]"]].labels) == {}
    assert table.missing == {
        "tra_in1[0]": "its video is not in COVAREP",
        "tra_in1[1]": "its video is not in COVAREP",
        "valid1[1]": "no step of COVAREP within its times",
        "test[0]": "only zeros in COVAREP",
    }


def test_labels_beyond_their_range_are_refused_but_for_rounding(source: Path, tmp_path: Path) -> None:
    with h5py.File(source / "CMU_MOSEI_Labels.csd", "a") as file:
        file["All Labels/data/test/features"][0, 0] = 3.0000002
    corpus = load_corpus(str(import_csd(source, tmp_path / "a").folder))
    assert corpus.split("test")[0].labels["sentiment"] == 3.0
    with h5py.File(source / "CMU_MOSEI_Labels.csd", "a") as file:
        file["All Labels/data/test/features"][0, 0] = 3.5
    with pytest.raises(UsageError, match=r"clip test\[0\]: sentiment must lie in \[-3, 3\], not 3.5"):
        import_csd(source, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_the_sdk_s_own_folds_and_given_ones_are_read(source: Path, tmp_path: Path) -> None:
    (source / "folds.json").unlink()
    with pytest.raises(UsageError, match=r"does not say which video is in which split: .*cmu_mosi_std_folds\.py"):
        import_csd(source, tmp_path / "a")
    lists = "".join(f"standard_{name}_fold={videos!r}\n" for name, videos in FOLDS.items())
    (source / "cmu_mosei_std_folds.py").write_text(lists, encoding="utf-8")
    assert import_csd(source, tmp_path / "a").clips == {"train": 4, "valid": 2, "test": 2}
    other = tmp_path / "mine.json"
    other.write_text(json.dumps({**FOLDS, "test": ["-train2"], "train": ["tra_in1"]}), encoding="utf-8")
    made = import_csd(source, tmp_path / "b", folds=other)
    assert made.clips == {"train": 2, "valid": 2, "test": 2}
    other.write_text(json.dumps({"train": ["x"], "valid": ["y"], "test": ["z"]}), encoding="utf-8")
    with pytest.raises(UsageError, match=r"none of the 4 videos of .*Labels\.csd is in a split: wrong folds\?"):
        import_csd(source, tmp_path / "c", folds=other)


@pytest.mark.parametrize("width", [2, 6])
def test_other_labels_are_refused(csd: Any, source: Path, tmp_path: Path, width: int) -> None:
    labels = {video: (np.zeros((1, width)), [[1.0, 4.0]]) for video in VIDEOS}
    csd.write(source / "CMU_MOSEI_Labels.csd", "All Labels", labels)
    with pytest.raises(UsageError, match=rf"has {width} labels per clip: MOSI's has 1, MOSEI's 7"):
        import_csd(source, tmp_path / "a")


def test_an_import_that_fails_midway_leaves_nothing(csd: Any, source: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5000, 3))
    path = csd.write(
        source / "CMU_MOSEI_VisualFacet42.csd", "FACET", {"test": csd.steps(values, 0, 1e-3)}, compression="gzip"
    )
    content = bytearray(path.read_bytes())
    middle = content.index(b"\x78\x5e") if b"\x78\x5e" in content else len(content) // 2
    content[middle + 100 : middle + 4000] = bytes(3900)
    path.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match=r"cannot read .*Facet42\.csd: entry test"):
        import_csd(source, tmp_path / "made")
    assert sorted(tmp_path.iterdir()) == before
