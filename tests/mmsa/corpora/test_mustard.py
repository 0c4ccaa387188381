from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.clip import Clip, Corpus
from mmsa.corpora.mustard import load_mustard, load_speaker_independent
from mmsa.errors import UsageError

SPLITS = ("train", "valid", "test")


def record(number: int) -> dict[str, Any]:
    """Four of ten clips are sarcastic, three of ten are from the test show; five folds in turn."""
    return {
        "utterance": f"Utterance {number}",
        "speaker": "SHELDON",
        "context": ["“Café”?", "No."],
        "context_speakers": ["LEONARD", "PERSON1"],
        "show": "FRIENDS" if number % 10 < 3 else "BBT",
        "sarcasm": number % 10 in (0, 2, 5, 7),
    }


RECORDS = {f"1_{number}": record(number) for number in range(100)}


def write(root: Path, records: Any, folds: dict[str, Any] | None = None) -> Path:
    (root / "sarcasm_data.json").write_text(json.dumps(records), encoding="utf-8")
    folds = folds if folds is not None else {key: i // 20 for i, key in enumerate(records)}
    rows = [f"{i},{key},{fold}" for i, (key, fold) in enumerate(folds.items())]
    (root / "folds_5.csv").write_text("\n".join(["index,id,test_fold", *rows]) + "\n", encoding="utf-8")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path, RECORDS)


def ids(corpus: Corpus, split: Any) -> list[str]:
    return [clip.id for clip in corpus.split(split)]


def test_a_record_is_read_whole(root: Path) -> None:
    for folder, name in (("utterances_final", "1_0"), ("videos/utterances_final", "1_1"), ("context_final", "1_2_c")):
        (root / folder).mkdir(parents=True)
        (root / folder / f"{name}.mp4").touch()
    clips = load_mustard(root).clips
    assert clips[0] == Clip(
        id="1_0",
        split="test",
        labels={"sarcasm": "sarcastic"},
        media=root / "utterances_final" / "1_0.mp4",
        transcript="Utterance 0",
        speaker="SHELDON",
        dialogue="1_0",
        turn=2,
        attributes={
            "show": "FRIENDS",
            "context": '["“Café”?", "No."]',
            "context_speakers": '["LEONARD", "PERSON1"]',
        },
    )
    assert clips[1].media == root / "videos" / "utterances_final" / "1_1.mp4"
    assert clips[1].labels == {"sarcasm": "not sarcastic"}
    assert clips[2].media is None


@pytest.mark.parametrize("fold", range(5))
def test_a_fold_tests_on_its_clips_and_validates_on_a_stratified_part_of_the_others(root: Path, fold: int) -> None:
    corpus = load_mustard(root, fold)
    assert corpus.name == f"mustard-fold{fold}"
    assert corpus.note == f"Fold {fold} of 5: published figures are means over all 5 folds."
    assert ids(corpus, "test") == [f"1_{number}" for number in range(20 * fold, 20 * fold + 20)]
    # Of 80 training clips 32 are sarcastic: 15 % of 32 and of 48 are 4.8 and 7.2.
    found = Counter(clip.labels["sarcasm"] for clip in corpus.split("valid"))
    assert found == {"sarcastic": 5, "not sarcastic": 7}
    assert len(corpus.split("train")) == 68


def test_the_validation_clips_do_not_depend_on_the_order_of_the_file(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    folds = {key: i // 20 for i, key in enumerate(RECORDS)}
    backwards = write(tmp_path / "other", dict(reversed(RECORDS.items())), dict(reversed(folds.items())))
    for split in SPLITS:
        assert set(ids(load_mustard(root, 2), split)) == set(ids(load_mustard(backwards, 2), split))


def test_the_registered_folds_are_the_folds(root: Path) -> None:
    for fold in range(5):
        assert load_corpus(f"mustard-fold{fold}", root) == replace(load_mustard(root, fold), language="en")
    assert load_corpus("mustard", root) == replace(load_mustard(root, 0), language="en")


def test_speaker_independent_tests_on_one_show_and_needs_no_folds(root: Path) -> None:
    (root / "folds_5.csv").unlink()
    corpus = load_corpus("mustard-speaker-independent", root)
    assert corpus == replace(load_speaker_independent(root), language="en")
    assert {clip.attributes["show"] for clip in corpus.split("test")} == {"FRIENDS"}
    assert {clip.attributes["show"] for split in ("train", "valid") for clip in corpus.split(split)} == {"BBT"}
    # 20 of 70 are sarcastic: 15 % of 20 and of 50 are 3 and 7.5, which rounds to even.
    found = Counter(clip.labels["sarcasm"] for clip in corpus.split("valid"))
    assert found == {"sarcastic": 3, "not sarcastic": 8}
    assert len(corpus.split("test")) == 30


@pytest.mark.parametrize("name", ["fold3", "speaker-independent"])
def test_every_setting_also_comes_with_what_is_said_before(root: Path, name: str) -> None:
    plain, more = load_corpus(f"mustard-{name}", root), load_corpus(f"mustard-context-{name}", root)
    assert more.name == f"mustard-context-{name}"
    assert [c.transcript for c in more.clips] == [f"“Café”?\nNo.\n{c.transcript}" for c in plain.clips]
    assert tuple(replace(c, transcript=None) for c in more.clips) == tuple(
        replace(c, transcript=None) for c in plain.clips
    )
    assert more.note.removeprefix(plain.note).strip().startswith("Transcripts begin with the utterances before")


def test_bystanders_who_share_a_name_with_training_are_told(root: Path) -> None:
    """Clips 1_0 to 1_2 of each ten are tested on."""
    speakers = {
        "1_0": "PERSON",
        "1_1": "PERSON1",
        "1_2": "PERSON2",
        "1_5": "PERSON",
        "1_6": "PERSON1",
        "1_10": "PERSON",
    }
    write(root, {key: {**own, "speaker": speakers.get(key, own["speaker"])} for key, own in RECORDS.items()})
    corpus = load_speaker_independent(root)
    assert corpus.note.startswith("3 test clips are spoken by PERSON and PERSON1, who are no persons")
    assert corpus.clips[0].speaker == "PERSON"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sarcasm": 1}, r"sarcasm_data\.json, clip 1_7: sarcasm must be a bool, not 1"),
        ({"utterance": None}, "clip 1_7: utterance must be a str, not None"),
        ({"context": "No."}, r"clip 1_7: context must be a list, not 'No\.'"),
        ({"context": ["No.", 3]}, r"clip 1_7: context must hold text only, not \['No\.', 3\]"),
        ({"context_speakers": ["A"]}, "clip 1_7: the context has 2 utterances and 1 speakers"),
    ],
)
def test_records_of_another_form_are_refused(root: Path, change: dict[str, Any], message: str) -> None:
    write(root, {**RECORDS, "1_7": {**RECORDS["1_7"], **change}})
    with pytest.raises(UsageError, match=message):
        load_mustard(root)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([1], r"sarcasm_data\.json must hold an object with one entry per clip, not a list"),
        ({"1_1": 4}, "clip 1_1: must be an object, not 4"),
        ({}, r"sarcasm_data\.json is not MUStARD's: .* has no clips"),
    ],
)
def test_json_of_another_form_is_refused(root: Path, records: Any, message: str) -> None:
    write(root, records, {})
    with pytest.raises(UsageError, match=message):
        load_mustard(root)


@pytest.mark.parametrize("content", [b"{'1_1': ", b'{"1_1": "\xff"}'])
def test_a_file_that_is_not_json_in_utf_8_is_refused(root: Path, content: bytes) -> None:
    (root / "sarcasm_data.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"sarcasm_data\.json is not JSON in UTF-8: "):
        load_mustard(root)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("100,1_3,0", r"folds_5\.csv, line 102, column id: '1_3' is given twice"),
        ("100,2_1,0", r"line 102, column id: there is no clip '2_1' in sarcasm_data\.json"),
        ("100,1_3,x", "line 102, column test_fold: must be a whole number, not 'x'"),
    ],
)
def test_folds_of_other_clips_are_refused(root: Path, row: str, message: str) -> None:
    with (root / "folds_5.csv").open("a", encoding="utf-8") as file:
        file.write(row + "\n")
    with pytest.raises(UsageError, match=message):
        load_mustard(root)


def test_every_clip_needs_a_fold_that_exists(root: Path) -> None:
    write(root, RECORDS, dict.fromkeys(list(RECORDS)[2:], 0))
    with pytest.raises(UsageError, match=r"folds_5\.csv gives no fold for 2 clips, such as 1_0, 1_1"):
        load_mustard(root)
    write(root, RECORDS, dict.fromkeys(RECORDS, 5))
    with pytest.raises(UsageError, match="line 2, column test_fold: must be one of 0 to 4, not 5"):
        load_mustard(root)
    with pytest.raises(ValueError, match="fold must be one of 0 to 4, not 5"):
        load_mustard(root, 5)


def test_missing_files_are_named(root: Path) -> None:
    (root / "folds_5.csv").unlink()
    with pytest.raises(UsageError, match=r"folds_5\.csv not found"):
        load_mustard(root)
    (root / "sarcasm_data.json").unlink()
    with pytest.raises(UsageError, match=r"sarcasm_data\.json not found"):
        load_speaker_independent(root)


needs_real = pytest.mark.skipif(
    not (Path(os.environ.get("MMSA_DATA", "/nowhere")) / "mustard").is_dir(), reason="MMSA_DATA holds no mustard"
)


@needs_real
def test_the_real_folds_hold_what_was_published() -> None:
    corpora = [load_corpus(f"mustard-fold{fold}") for fold in range(5)]
    assert [len(corpus.split("test")) for corpus in corpora] == [138] * 5
    assert len({key for corpus in corpora for key in ids(corpus, "test")}) == 690
    assert Counter(clip.labels["sarcasm"] for clip in corpora[0].clips) == {"sarcastic": 345, "not sarcastic": 345}


@needs_real
def test_the_real_speaker_independent_split_holds_what_was_published() -> None:
    corpus = load_corpus("mustard-speaker-independent")
    assert corpus.note.startswith("28 test clips are spoken by PERSON and PERSON1")
    # Castro et al.: 356 clips from "Friends", 334 from the other shows.
    assert len(corpus.split("test")) == 356
    assert len(corpus.split("train")) + len(corpus.split("valid")) == 334
