from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsa.bundle import load_bundle
from mmsa.config import make_config
from mmsa.corpora import load_corpus
from mmsa.corpora.clip import Corpus
from mmsa.corpora.mmsa_pickle import import_pickle
from mmsa.errors import UsageError
from mmsa.precomputed import open_precomputed
from mmsa.runs import open_workshop, train
from mmsa.scoring import load_scorer
from mmsa.tasks import Classification, Regression

STEPS = {"text": 50, "audio": 375, "vision": 500}
DIMS = {"text": 768, "audio": 5, "vision": 20}
COUNTS = {"train": 12, "valid": 6, "test": 5}

Write = Callable[..., Path]


def pad(clips: list[Any], steps: int, side: str) -> Any:
    """Float64 and zeros, as MMSA-FET pads."""
    padded = np.zeros((len(clips), steps, clips[0].shape[1]))
    for row, clip in zip(padded, clips, strict=True):
        row[slice(0, len(clip)) if side == "right" else slice(steps - len(clip), steps)] = clip
    return padded


def make_clips(split: str, modality: str) -> list[Any]:
    """Sequences of different lengths without a step of zeros; high labels have high features."""
    rng = np.random.default_rng([len(split), len(modality)])
    lengths = rng.integers(3, STEPS[modality] - 2, COUNTS[split])
    return [rng.uniform(0.5, 1.5, (n, DIMS[modality])).astype(np.float32) + 2 * sign(i) for i, n in enumerate(lengths)]


def sign(i: int) -> int:
    return 1 if i % 2 else -1


def label(i: int) -> float:
    return 2.0 * sign(i) + 0.2 * (i % 3)


def mmsa_split(split: str, side: str = "right", lengths: bool = True) -> dict[str, Any]:
    """One split of the unaligned MOSI file, but for the number of clips."""
    clips = {modality: make_clips(split, modality) for modality in STEPS}
    data: dict[str, Any] = {key: pad(own, STEPS[key], side if key != "text" else "right") for key, own in clips.items()}
    bert = np.zeros((COUNTS[split], 3, STEPS["text"]))
    for row, clip in zip(bert, clips["text"], strict=True):
        row[0, : len(clip)], row[1, : len(clip)] = 101, 1
    data["text"][bert[:, 1] == 0] = 0.25  # BERT says something about padding too
    data["text_bert"] = bert
    data["raw_text"] = np.array([f"CLIP {i} OF {split}" for i in range(COUNTS[split])])
    data["id"] = [f"{split}video{i // 3}$_${i % 3}" for i in range(COUNTS[split])]
    data["regression_labels"] = np.array([label(i) for i in range(COUNTS[split])])
    data["annotations"] = np.array(["Positive"] * COUNTS[split])
    if lengths:
        data["audio_lengths"] = [len(clip) for clip in clips["audio"]]
        data["vision_lengths"] = [len(clip) for clip in clips["vision"]]
    return data


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(data: Any, name: str = "unaligned_50.pkl") -> Path:
        path = tmp_path / name
        path.write_bytes(pickle.dumps(data, 4))
        return path

    return written


def sequences(corpus: Corpus, modality: str) -> list[Any]:
    table = open_precomputed(corpus, modality)
    return [table.sequence(i).values for i in range(len(corpus.clips))]


def small(**changes: Any) -> dict[str, Any]:
    """Two splits of two clips, with one modality and a step of zeros inside the first."""
    audio = np.zeros((2, 4, 1))
    audio[0, :3, 0], audio[1, :2, 0] = [1, 0, 3], [4, 5]
    data = {"audio": audio, "regression_labels": [2.5, -1.0], "id": ["a$_$0", "b$_$1"], "raw_text": ["so", "no"]}
    one = {**data, **changes}
    return {"train": one, "test": {**one, "id": ["c$_$0", "c$_$1"]}}


def load(folder: Path) -> Corpus:
    return load_corpus(str(folder))


def test_a_file_of_mosi_s_shapes_becomes_a_corpus(write: Write, tmp_path: Path) -> None:
    data = {split: mmsa_split(split) for split in COUNTS}
    made = import_pickle(write({**data, "config": {"a": 1}}), tmp_path / "mymosi")
    assert made.clips == COUNTS
    assert made.tasks == (Regression("sentiment", -3.0, 3.0, "mosi"),)
    assert "not read: annotations, config" in made.notes
    corpus = load_corpus(str(tmp_path / "mymosi"))
    assert (corpus.name, corpus.tasks, corpus.default_tasks) == ("mymosi", made.tasks, ("sentiment",))
    assert "unaligned_50.pkl" in corpus.note
    clip = corpus.split("valid")[4]
    assert (clip.id, clip.dialogue, clip.turn, clip.transcript) == (
        "validvideo1$_$1",
        "validvideo1",
        1,
        "CLIP 4 OF valid",
    )
    assert [c.labels["sentiment"] for c in corpus.split("test")] == [label(i) for i in range(5)]
    for modality in STEPS:
        given = [clip for split in COUNTS for clip in make_clips(split, modality)]
        found = sequences(corpus, modality)
        assert all(np.array_equal(a, b) for a, b in zip(found, given, strict=True)), modality
        report = made.modalities[modality]
        assert (report.features, report.clips, report.missing) == (DIMS[modality], 23, 0)
        assert report.longest_steps == max(map(len, given))
        assert (report.padding, report.corrected, report.not_finite) == ("right", 0, 0)
    assert made.modalities["text"].lengths == "text_bert"
    assert made.modalities["audio"].lengths == "audio_lengths"


def test_multibench_s_layout_is_read(write: Write, tmp_path: Path) -> None:
    """Labels `(N, 1, 1)`, ids of three parts as bytes, padding on the left, no words."""

    def part(split: str) -> dict[str, Any]:
        return {
            "vision": pad(make_clips(split, "vision"), 500, "left").astype(np.float32),
            "labels": np.array([label(i) for i in range(COUNTS[split])]).reshape(-1, 1, 1),
            "id": np.array([[f"{split}{i}".encode(), b"0.5", b"2.5"] for i in range(COUNTS[split])], dtype=object),
        }

    made = import_pickle(write({split: part(split) for split in COUNTS}), tmp_path / "made")
    corpus = load(made.folder)
    assert made.modalities["vision"].padding == "left"
    assert corpus.clips[0].id == "train0_0.5_2.5"
    assert corpus.clips[0].transcript is None
    assert corpus.split("test")[3].labels["sentiment"] == label(3)
    given = [clip for split in COUNTS for clip in make_clips(split, "vision")]
    assert all(np.array_equal(a, b) for a, b in zip(sequences(corpus, "vision"), given, strict=True))


class TestLabels:
    @pytest.mark.parametrize(
        ("labels", "chosen", "expected"),
        [
            ([2.5, -1.0], None, (-3, 3, "mosi")),
            ([0.4, -1.0], None, (-1, 1, "sims")),
            ([0.4, -1.0], "mosi", (-3, 3, "mosi")),
            ([0.4, -1.0], "simsv2", (-1, 1, "simsv2")),
            ([2.5, 4.0], (0.0, 5.0), (0, 5, "plain")),
        ],
    )
    def test_the_range_goes_by_the_labels_or_is_given(
        self, write: Write, tmp_path: Path, labels: list[float], chosen: Any, expected: Any
    ) -> None:
        made = import_pickle(write(small(regression_labels=labels)), tmp_path / "made", labels=chosen)
        (task,) = made.tasks
        assert isinstance(task, Regression)
        assert (task.low, task.high, task.metrics) == expected
        assert any("give another with --labels" in note for note in made.notes) == (chosen is None)

    def test_labels_of_single_modalities_are_tasks_that_are_not_learned_by_default(
        self, write: Write, tmp_path: Path
    ) -> None:
        own = {"regression_labels": [0.2, -0.4], "regression_labels_T": [0.0, 1.0], "regression_labels_A": [-1.0, 0.6]}
        corpus = load(import_pickle(write(small(**own)), tmp_path / "made").folder)
        assert [task.name for task in corpus.tasks] == ["sentiment", "sentiment_text", "sentiment_audio"]
        assert corpus.default_tasks == ("sentiment",)
        assert corpus.clips[1].labels == {"sentiment": -0.4, "sentiment_text": 1.0, "sentiment_audio": 0.6}

    def test_two_whole_numbers_are_two_classes(self, write: Write, tmp_path: Path) -> None:
        """MultiBench's sarcasm."""
        corpus = load(import_pickle(write(small(regression_labels=[[1.0], [-1.0]])), tmp_path / "made").folder)
        assert corpus.tasks == (Classification("label", ("-1", "1")),)
        assert [clip.labels["label"] for clip in corpus.clips] == ["1", "-1", "1", "-1"]

    def test_a_clip_without_a_number_is_unlabelled(self, write: Write, tmp_path: Path) -> None:
        made = import_pickle(write(small(regression_labels=[np.nan, 0.5])), tmp_path / "made")
        assert "2 clips have no sentiment label" in made.notes
        assert dict(load(made.folder).clips[0].labels) == {}

    @pytest.mark.parametrize(
        ("labels", "chosen", "message"),
        [
            ([7.0, 1.5], None, "labels up to ±7, which are neither MOSI's nor CH-SIMS's"),
            ([2.5, 0.5], "sims", r"2 sentiment labels lie outside \[-1, 1\] \(a\$_\$0 2.5, c\$_\$0 2.5\)"),
            ([2.5, 0.5], "mosei", "labels must be mosi, sims, simsv2 or a range, not 'mosei'"),
            ([2.5, 0.5], (3.0, 1.0), "the lower one first"),
            ([np.nan, np.nan], None, "no label that is a number"),
        ],
    )
    def test_labels_that_do_not_fit_are_refused(
        self, write: Write, tmp_path: Path, labels: list[float], chosen: Any, message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            import_pickle(write(small(regression_labels=labels)), tmp_path / "made", labels=chosen)
        assert not (tmp_path / "made").exists()


def test_ids_that_are_given_twice_are_told_apart(write: Write, tmp_path: Path) -> None:
    data = small(id=["same", "same"])
    made = import_pickle(write(data), tmp_path / "made")
    assert [clip.id for clip in load(made.folder).clips] == ["same#train_0", "same#train_1", "c$_$0", "c$_$1"]
    assert "1 ids are given to several clips (such as 'same')" in " ".join(made.notes)


def test_a_malicious_file_is_refused_and_nothing_is_left(write: Write, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'pwned'}",)

    data = {split: mmsa_split(split) for split in COUNTS}
    data["test"]["raw_text"] = np.array([*data["test"]["raw_text"][1:], Payload()], object)
    path = write(data)
    with pytest.raises(UsageError, match=r"names posix\.system.*nothing in them is run"):
        import_pickle(path, tmp_path / "made")
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_there_is_left_alone(write: Write, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    with pytest.raises(UsageError, match="made is there already: choose another folder"):
        import_pickle(write(small()), tmp_path / "made")
    with pytest.raises(UsageError, match="name is made of letters, digits"):
        import_pickle(write(small()), tmp_path / "other", name="my mosi")


@pytest.fixture
def imported(write: Write, workspace: Path) -> Path:
    folder = workspace / "mymosi"
    import_pickle(write({split: mmsa_split(split) for split in COUNTS}), folder)
    return folder


SETTINGS: dict[str, Any] = {
    "corpus": "./mymosi",
    "epochs": 2,
    "batch_size": 6,
    "head.hidden_dim": 8,
    "device": "cpu",
    "learning_rate": 0.01,
}


def test_training_needs_no_extractor_and_scoring_says_why_it_cannot(imported: Path) -> None:
    run = train(make_config(None, SETTINGS))
    assert run.modalities == ("audio", "text", "vision")
    assert run.experiment == "mmsa-mymosi"
    assert any("unaligned_50.pkl" in note for note in run.notes)
    assert set(run.test_metrics) >= {"sentiment.mae", "sentiment.acc_2_non0"}
    specs = load_bundle(run.bundle).extractors
    assert {key: (spec.name, spec.tool) for key, spec in specs.items()} == dict.fromkeys(
        STEPS, ("precomputed", "unaligned_50.pkl")
    )
    with pytest.raises(
        UsageError, match=r"features that came ready-made .*: audio \(from unaligned_50\.pkl\), text .*, vision"
    ):
        load_scorer(run.id)


def test_an_extractor_that_is_named_takes_the_place_of_what_came(imported: Path) -> None:
    shop = open_workshop(make_config(None, {**SETTINGS, "extractors.text.name": "text.lexical", "jobs": 1}))
    assert set(shop.extractors) == {"text"}
    assert shop.specs["text"].name == "text.lexical"
    assert shop.specs["audio"].name == "precomputed"
    assert list(shop.tables["text"].offsets[:3]) == [0, 4, 8]  # "CLIP 0 OF train" has four words


def test_a_table_that_no_longer_fits_the_features_is_refused(imported: Path) -> None:
    table = imported / "clips.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([*lines[:3], *lines[4:]]) + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="are of other clips than its table: 23 and 22, different from clip 3 on"):
        open_workshop(make_config(None, SETTINGS))


def test_the_report_is_json(write: Write, tmp_path: Path) -> None:
    made = import_pickle(write(small()), tmp_path / "made")
    row = json.loads(json.dumps(made.to_dict()))
    assert row["clips"] == {"train": 2, "test": 2}
    assert row["modalities"]["audio"]["longest_steps"] == 3
