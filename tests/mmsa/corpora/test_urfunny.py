from __future__ import annotations

import json
import os
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.check import check_corpus
from mmsa.corpora.urfunny import HUMOR, import_urfunny, load_urfunny
from mmsa.errors import UsageError
from mmsa.precomputed import open_precomputed

FOLDS = {"train": [7, 12, 3], "dev": [5], "test": [9]}
IDS = [7, 12, 3, 5, 9]
LABELS = {7: 1, 12: 0, 3: 1, 5: 0, 9: 1, 44: 1}
WORDS = {clip: 2 + clip % 3 for clip in LABELS}


def features(clip: int, width: int) -> Any:
    """One row of numbers per word of the punchline."""
    return clip + np.arange(WORDS[clip] * width, dtype=np.float64).reshape(WORDS[clip], width) / 100


def entry(clip: int, width: int, form: str) -> dict[str, Any]:
    own = features(clip, width)
    forms = {"array": own, "list of arrays": list(own), "lists": own.tolist()}
    return {"punchline_features": forms[form], "context_features": [np.ones((4, width)), [[0.5] * width]]}


def language(clip: int) -> dict[str, Any]:
    return {
        "punchline_embedding_indexes": [(clip + i) % 6 for i in range(WORDS[clip])],
        "context_embedding_indexes": [[1, 2], [3]],
        "punchline_sentence": f" punchline  of {clip} é",
        "context_sentences": ["so i went", f"to {clip}"],
        "punchline_intervals": [[0.0, 1.0]],
        "context_intervals": [[[0.0, 1.0]]],
    }


VECTORS = [np.full(4, float(i)) for i in range(6)]


def dump(root: Path, name: str, data: Any, protocol: int = 4) -> None:
    (root / f"{name}.pkl").write_bytes(pickle.dumps(data, protocol))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Version 2, with three forms of features."""
    folder = tmp_path / "urfunny"
    folder.mkdir()
    dump(folder, "data_folds", FOLDS)
    dump(folder, "humor_label_sdk", LABELS)
    dump(folder, "language_sdk", {clip: language(clip) for clip in LABELS})
    dump(folder, "word_embedding_list", VECTORS)
    dump(folder, "covarep_features_sdk", {clip: entry(clip, 3, "list of arrays") for clip in LABELS}, 3)
    dump(folder, "openface_features_sdk", {clip: entry(clip, 2, "lists") for clip in LABELS})
    return folder


def test_a_clip_is_a_punchline_with_its_words_voice_and_face(root: Path, tmp_path: Path) -> None:
    made = import_urfunny(root, tmp_path / "made")
    assert made.clips == {"train": 3, "valid": 1, "test": 1}
    assert made.tasks == (HUMOR,)
    assert made.notes == ("1 clips with a label are in no split and were left out",)
    corpus = load_corpus(str(tmp_path / "made"))
    assert [(clip.id, clip.split) for clip in corpus.clips] == [
        ("7", "train"),
        ("12", "train"),
        ("3", "train"),
        ("5", "valid"),
        ("9", "test"),
    ]
    first = corpus.clips[0]
    assert first.labels == {"humor": "humorous"}
    assert corpus.clips[1].labels == {"humor": "not humorous"}
    assert first.transcript == "punchline of 7 é"
    assert json.loads(first.attributes["context"]) == ["so i went", "to 7"]
    for key, width in {"audio": 3, "vision": 2}.items():
        table = open_precomputed(corpus, key)
        for position, clip in enumerate(IDS):
            assert table.sequence(position).values == pytest.approx(features(clip, width), abs=1e-5)
    text = open_precomputed(corpus, "text")
    assert text.sequence(0).values[:, 0].tolist() == [float((7 + i) % 6) for i in range(WORDS[7])]
    assert text.sequence(0).values.shape[1] == 4
    report = made.modalities["audio"]
    assert (report.features, report.clips, report.missing, report.longest_steps) == (3, 5, 0, 4)


@pytest.mark.parametrize("form", ["array", "list of arrays", "lists"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_features_are_read_from_whatever_holds_them(root: Path, tmp_path: Path, form: str, protocol: int) -> None:
    dump(root, "covarep_features_sdk", {clip: entry(clip, 3, form) for clip in LABELS}, protocol)
    corpus = load_corpus(str(import_urfunny(root, tmp_path / "made").folder))
    assert open_precomputed(corpus, "audio").sequence(2).values == pytest.approx(features(3, 3), abs=1e-5)


def test_the_registered_corpus_keeps_what_it_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = load_corpus("urfunny", root)
    assert (corpus.name, len(corpus.clips)) == ("urfunny", 5)
    monkeypatch.setattr("mmsa.corpora.urfunny.import_urfunny", None)
    assert load_corpus("urfunny", root) == corpus
    os.utime(root / "humor_label_sdk.pkl", ns=(1, 1))
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        load_corpus("urfunny", root)


def test_the_context_can_stand_before_the_punchline(root: Path) -> None:
    corpus = load_corpus("urfunny-context", root)
    assert corpus.name == "urfunny-context"
    assert corpus.clips[0].transcript == "so i went to 7 punchline of 7 é"
    assert corpus.note.endswith("sound and picture are the punchline's.")


def test_version_1_has_indexes_of_words_and_no_sentences(root: Path, tmp_path: Path) -> None:
    (root / "language_sdk.pkl").unlink()
    keys = ("punchline_embedding_indexes", "context_embedding_indexes")
    dump(root, "word_embedding_indexes_sdk", {c: {key: language(c)[key] for key in keys} for c in LABELS}, 2)
    made = import_urfunny(root, tmp_path / "made")
    assert "5 clips have no sentence (version 1 has none)" in made.notes
    corpus = load_corpus(str(made.folder))
    assert corpus.clips[0].transcript is None
    assert open_precomputed(corpus, "text").sequence(3).values[:, 0].tolist() == [float((5 + i) % 6) for i in range(4)]


def test_files_that_are_not_there_are_modalities_that_are_not(root: Path, tmp_path: Path) -> None:
    for name in ("covarep_features_sdk", "openface_features_sdk", "word_embedding_list"):
        (root / f"{name}.pkl").unlink()
    (root / "urfunny2_videos").mkdir()
    (root / "urfunny2_videos" / "12.mp4").write_bytes(b"x")
    made = import_urfunny(root, tmp_path / "made")
    assert made.modalities == {}
    assert [note for note in made.notes if "covarep" in note] == [
        f"audio: no features, as covarep_features_sdk.pkl is not in {root}"
    ]
    corpus = load_corpus(str(made.folder))
    assert dict(corpus.features) == {}
    assert corpus.note == ""
    assert [clip.media for clip in corpus.clips if clip.media] == [root / "urfunny2_videos" / "12.mp4"]
    assert not [f for f in check_corpus(corpus).findings if f.severity == "problem" and f.kind != "label"]


def test_clips_without_features_lack_the_modality_and_infinite_values_are_counted(root: Path, tmp_path: Path) -> None:
    data = {clip: entry(clip, 3, "array") for clip in LABELS}
    data[12]["punchline_features"] = []
    del data[3]
    data[5]["punchline_features"] = np.zeros((3, 3))
    data[9]["punchline_features"] = [np.array([1.0, -np.inf, np.nan]), np.array([1.0, 1e300, 2.0])]
    dump(root, "covarep_features_sdk", data)
    made = import_urfunny(root, tmp_path / "made")
    assert "audio: 3 clips lack it" in made.notes
    assert "audio: 3 values were infinite or undefined and are read as 0" in made.notes
    table = open_precomputed(load_corpus(str(made.folder)), "audio")
    assert set(table.missing) == {"12", "3", "5"}
    assert table.sequence(4).values.tolist() == [[1, 0, 0], [1, 0, 2]]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("data_folds", {"train": [7], "dev": [5]}, "must hold the lists train, dev, test: test is none"),
        ("data_folds", {**FOLDS, "test": [7]}, "names the clip 7 twice, in train and test"),
        ("data_folds", [1], "must hold the lists"),
        ("humor_label_sdk", {7: 1, 12: 2, 3: 1, 5: [1], 9: 0}, r"has no 0 or 1 for 2 clips, such as 12, 5"),
        ("humor_label_sdk", [1], "must hold a dictionary by clip, not a list"),
        (
            "covarep_features_sdk",
            {7: entry(7, 3, "array"), 5: entry(5, 4, "array")},
            "in every clip, not 3 in 1",
        ),
        ("covarep_features_sdk", {7: {"punchline_features": [[1.0], [1.0, 2.0]]}}, "must be numbers, as many for each"),
        ("covarep_features_sdk", {7: {"punchline_features": ["a"]}}, "must be numbers, as many for each"),
        ("covarep_features_sdk", {7: {"punchline_features": [1.0, 2.0]}}, r"must be \(words, features\), not \(2,\)"),
        ("language_sdk", {7: {"punchline_embedding_indexes": [6]}}, r"clip 7: its words' indexes must lie in \[0, 6\)"),
        ("language_sdk", {7: {"punchline_embedding_indexes": ["a"]}}, r"clip 7: its words' indexes must lie"),
    ],
)
def test_files_that_hold_what_they_cannot_are_refused(
    root: Path, tmp_path: Path, name: str, data: Any, message: str
) -> None:
    dump(root, name, data)
    with pytest.raises(UsageError, match=message):
        import_urfunny(root, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_the_context_s_features_take_no_memory(root: Path, tmp_path: Path) -> None:
    """They are most of the files, and not used: a hundred clips, each with four hundred times as much context."""
    ids = list(range(100))
    dump(root, "data_folds", {"train": ids[2:], "dev": ids[:1], "test": ids[1:2]})
    dump(root, "humor_label_sdk", {clip: clip % 2 for clip in ids})
    context = np.ones((400, 50))
    data = {c: {"punchline_features": [[c + 1.0] * 50], "context_features": [context + c]} for c in ids}
    dump(root, "covarep_features_sdk", data)
    size = (root / "covarep_features_sdk.pkl").stat().st_size
    tracemalloc.start()
    import_urfunny(root, tmp_path / "made")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 2


def test_nothing_in_the_files_is_run(root: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'pwned'}",)

    for name in ("data_folds", "humor_label_sdk", "language_sdk", "word_embedding_list", "openface_features_sdk"):
        kept = (root / f"{name}.pkl").read_bytes()
        dump(root, name, {7: {"punchline_features": Payload()}})
        with pytest.raises(UsageError, match=rf"{name}\.pkl names posix\.system.*nothing in them is run"):
            load_urfunny(root)
        (root / f"{name}.pkl").write_bytes(kept)
    assert not (tmp_path / "pwned").exists()


def test_missing_files_are_named(root: Path, tmp_path: Path) -> None:
    (root / "humor_label_sdk.pkl").unlink()
    with pytest.raises(UsageError, match=r"humor_label_sdk\.pkl not found: give the folder that holds"):
        import_urfunny(root, tmp_path / "made")
