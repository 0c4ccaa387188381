from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmsa.corpora import Clip, Corpus
from mmsa.corpora import check as module
from mmsa.corpora.check import Finding, Report, check, check_corpus
from mmsa.errors import UsageError
from mmsa.precomputed import precomputed_spec, write_precomputed
from mmsa.tasks import Classification, MultiLabel, Regression

TASKS = (Regression("sentiment", -1, 1), Classification("emotion", ("calm", "glad")))


def clip(number: int, split: Any = "train", **changes: Any) -> Clip:
    labels: dict[str, float | str] = {"sentiment": number / 10, "emotion": ("calm", "glad")[number % 2]}
    return replace(Clip(str(number), split, labels, transcript=f"clip number {number}"), **changes)


def corpus(*changed: Clip, name: str = "made", **more: Any) -> Corpus:
    """A corpus without a fault, but for the clips given, which replace those with their ids."""
    clips = [clip(1), clip(2), clip(3), clip(4, "valid"), clip(5, "test")]
    own = {c.id: c for c in (*clips, *changed)}
    return Corpus(name, tuple(own.values()), TASKS, **more)


def found(report: Report, kind: str) -> list[tuple[str, str, str]]:
    return [(f.severity, f.clip, f.message) for f in report.findings if f.kind == kind]


def test_a_sound_corpus_has_no_problems_and_is_described() -> None:
    report = check_corpus(corpus(clip(1, speaker="Ann"), clip(2, speaker="Bob"), clip(3, speaker="Ann")))
    assert report.problems == 0
    assert [f.message for f in report.findings] == ["no clip has a media file: the corpus is text or features only"]
    assert report.clips == {"train": 3, "valid": 1, "test": 1}
    assert (report.media, report.transcripts, report.speakers, report.features) == (0, 5, 2, ())
    assert report.labels["emotion"] == {"calm": 2, "glad": 3}
    assert report.labels["sentiment"] == pytest.approx({"low": 0.1, "mean": 0.3, "high": 0.5})


def test_media_that_are_named_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "full.mp4").write_bytes(b"x")
    (tmp_path / "empty.mp4").touch()
    media = {i: tmp_path / f"{name}.mp4" for i, name in ((1, "full"), (2, "empty"), (3, "gone"))}
    report = check_corpus(corpus(*(clip(i, media=path) for i, path in media.items())))
    assert report.media == 2
    assert found(report, "media") == [
        ("problem", "2", f"its media file is empty: {media[2]}"),
        ("problem", "3", f"its media file is not there: {media[3]}"),
        ("note", "4", "no media file: used without sound and picture"),
        ("note", "5", "no media file: used without sound and picture"),
    ]


def test_clips_without_words_are_noted_and_without_anything_are_problems(tmp_path: Path) -> None:
    report = check_corpus(corpus(clip(1, transcript=None, media=tmp_path), clip(2, transcript=" ")))
    assert found(report, "transcript") == [("note", "1", "no transcript")]
    assert found(report, "clip") == [("problem", "2", "neither a media file nor a transcript: nothing to learn from")]


def test_the_same_stretch_of_media_twice_is_a_problem(tmp_path: Path) -> None:
    media = tmp_path / "a.mp4"
    first, second = clip(1, media=media, start_seconds=0.0), clip(2, media=media, start_seconds=1.0)
    assert found(check_corpus(corpus(first, second)), "duplicate") == []
    second = replace(second, start_seconds=0.0)
    assert found(check_corpus(corpus(first, second)), "duplicate") == [
        ("problem", "2", "the same stretch of media as 1")
    ]


@pytest.mark.parametrize(
    ("words", "split", "severity"),
    [
        ("thank you", "train", None),
        ("thank you", "test", "note"),
        ("this is said in full length twice", "train", "note"),
        ("this is said in full length twice", "test", "problem"),
        ("我不愿意让他去吧就耍脾气", "test", "problem"),
        ("你怎么来了", "test", "note"),
    ],
)
def test_long_transcripts_do_not_recur_between_splits_by_chance(words: str, split: Any, severity: str | None) -> None:
    report = check_corpus(corpus(clip(1, transcript=words), clip(9, split, transcript=f" {words.upper()} ")))
    expected = {} if severity is None else {("9", severity)}
    assert {(c, s) for s, c, _ in found(report, "duplicate") if c == "9"} == set(expected)


@pytest.mark.parametrize("kind", ["speaker", "dialogue", "media"])
def test_what_is_in_two_splits_is_a_problem(kind: str, tmp_path: Path) -> None:
    value = tmp_path / "a.mp4" if kind == "media" else "Ann"
    changes = [{kind: value, "start_seconds": float(i)} for i in range(3)]
    inside = corpus(clip(1, **changes[0]), clip(2, **changes[1]))
    assert found(check_corpus(inside), kind if kind != "media" else "none") == []
    across = corpus(clip(1, **changes[0]), clip(5, "test", **changes[1]))
    assert ("problem", "", f"the {kind} {value} is in test and train") in found(check_corpus(across), kind)


def test_what_official_splits_share_is_a_note() -> None:
    shared = (clip(1, speaker="Ann"), clip(5, "test", speaker="Ann"), clip(2, speaker="Bob"))
    told = found(check_corpus(corpus(*shared, name="mustard-fold3")), "speaker")
    assert told == [("note", "", "speaker: 1 of 2 are in more than one split, as in the official release")]
    assert found(check_corpus(corpus(*shared, name="mustard-speaker-independent")), "speaker")[0][0] == "problem"


def test_speakers_who_are_no_persons_and_a_validation_split_of_training_s_are_no_problem() -> None:
    name = "mustard-speaker-independent"
    bystanders = (clip(1, speaker="PERSON1"), clip(5, "test", speaker="PERSON1"))
    told = found(check_corpus(corpus(*bystanders, name=name)), "speaker")
    assert told == [("note", "", "the speaker PERSON1 is in test and train, but stands for anyone without a name")]
    assert found(check_corpus(corpus(*bystanders)), "speaker")[0][0] == "problem"
    carved = corpus(clip(1, speaker="Ann"), clip(4, "valid", speaker="Ann"), name=name)
    assert found(check_corpus(carved), "speaker") == []


def test_counts_that_could_not_be_confirmed_are_a_note_and_versions_count_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = found(check_corpus(corpus(name="simsv2")), "count")
    assert told == [("note", "", "3 / 1 / 1 clips in train / valid / test; the literature has 2722 / 647 / 1034")]
    monkeypatch.setitem(module.TOTALS, "urfunny", (5, 7))
    assert found(check_corpus(corpus(name="urfunny-context")), "count") == []
    monkeypatch.setitem(module.TOTALS, "urfunny", (6, 7))
    assert found(check_corpus(corpus(name="urfunny")), "count") == [
        ("problem", "", "5 clips; the literature has 6 or 7")
    ]


def test_labels_of_a_multi_label_task_are_counted_by_class() -> None:
    task = MultiLabel("signs", ("smile", "frown", "nod"))
    held = {"1": ("smile", "nod"), "2": (), "3": ("smile",), "4": ("frown",)}
    clips = [replace(c, labels={"signs": held[c.id]} if c.id in held else {}) for c in corpus().clips]
    report = check_corpus(Corpus("made", tuple(clips), (task,)))
    assert report.labels["signs"] == {"smile": 2, "frown": 1, "nod": 1, "(none)": 1}
    assert found(report, "label") == [
        ("problem", "", "signs: no clip of train is frown"),
        ("note", "5", "no signs label"),
    ]


def test_turns_and_times_must_make_sense() -> None:
    report = check_corpus(
        corpus(
            clip(1, dialogue="d", turn=0),
            clip(2, dialogue="d", turn=0),
            clip(3, dialogue="e", turn=0, start_seconds=2.0, end_seconds=1.5),
        )
    )
    assert found(report, "turn") == [("problem", "2", "the same turn of d as 1")]
    assert found(report, "time") == [("problem", "3", "starts at 2.0 s and ends at 1.5 s")]


def test_labels_must_be_there_to_be_learned() -> None:
    report = check_corpus(
        corpus(clip(1, labels={"emotion": "calm"}), clip(2), clip(3, labels={"emotion": "calm", "sentiment": 0.2}))
    )
    assert found(report, "label") == [
        ("problem", "", "sentiment has 1 different labels in train: nothing can be learned"),
        ("problem", "", "emotion has 1 different labels in train: nothing can be learned"),
        ("note", "1", "no sentiment label"),
    ]
    other = Classification("emotion", ("calm", "glad", "sad", "shy"))
    report = check_corpus(replace(corpus(), tasks=(TASKS[0], other)))
    assert found(report, "label") == [("problem", "", "emotion: no clip of train is sad, shy")]


def test_counts_are_compared_with_the_literature() -> None:
    assert found(check_corpus(corpus(name="mosi")), "count") == [
        ("problem", "", "3 / 1 / 1 clips in train / valid / test; the literature has 1284 / 229 / 686")
    ]
    assert found(check_corpus(corpus(name="mustard-fold0")), "count") == [
        ("problem", "", "5 clips; the literature has 690")
    ]
    assert found(check_corpus(corpus()), "count") == []


def test_a_split_without_clips_is_a_problem() -> None:
    report = check_corpus(Corpus("made", (clip(1), clip(2)), TASKS))
    assert [message.split(":")[0] for _, _, message in found(report, "split")] == [
        "there is no clip in valid",
        "there is no clip in test",
    ]


def test_features_are_looked_into(tmp_path: Path) -> None:
    ids = [c.id for c in corpus().clips]
    clips = [(own, np.ones((int(own != "2"), 1), np.float32), "only zeros") for own in ids]
    write_precomputed(tmp_path / "audio", precomputed_spec("a.pkl", "0"), ("x",), clips)
    sound = corpus(features={"audio": tmp_path / "audio"})
    assert found(check_corpus(sound), "features") == [("note", "2", "no audio: only zeros")]
    assert check_corpus(sound).features == ("audio",)
    longer = replace(sound, clips=(*sound.clips, clip(6)))
    ((severity, _, message),) = found(check_corpus(longer), "features")
    assert severity == "problem"
    assert "of other clips than its table: 5 and 6" in message


def test_problems_come_first() -> None:
    early = Finding("note", "row", "1", "fine")
    report = check_corpus(Corpus("made", (clip(1), clip(2)), TASKS), [early])
    severities = [f.severity for f in report.findings]
    assert severities == sorted(severities, reverse=True)
    assert early in report.findings


HEADER = "id,split,transcript,sentiment\n"


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str], Path]:
    def written(rows: str) -> Path:
        (tmp_path / "mine.csv").write_text(HEADER + rows, encoding="utf-8")
        described = {"tasks": {"sentiment": {"kind": "regression", "low": -1, "high": 1}}}
        (tmp_path / "mine.yaml").write_text(json.dumps(described), encoding="utf-8")
        return tmp_path / "mine.csv"

    return written


def test_rows_that_cannot_be_read_are_findings(table: Callable[[str], Path]) -> None:
    report = check(str(table("a,train,one,0\nb,train,two,7\nc,valid,three,1\nd,dev,four,1\ne,train,five,1\n")))
    problems = {(f.kind, f.clip): f.message for f in report.findings if f.severity == "problem"}
    assert problems["sentiment", "b"] == "row 3, column sentiment: sentiment must lie in [-1.0, 1.0], not '7'"
    assert problems["split", "d"].startswith("row 5, column split: it must be one of train")
    assert report.clips == {"train": 2, "valid": 1, "test": 0}


def test_a_table_of_nothing_but_problems_is_reported(table: Callable[[str], Path]) -> None:
    report = check(str(table("a,dev,one,0\n")))
    assert (report.name, report.problems, sum(report.clips.values())) == ("mine", 1, 0)


def test_what_cannot_be_checked_is_refused(
    tmp_path: Path, table: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MMSA_DATA", raising=False)
    with pytest.raises(UsageError, match="there is no corpus 'nonesuch'"):
        check("nonesuch")
    with pytest.raises(UsageError, match=r"fits no registered corpus .* say which with `mmsa corpus check NAME --root"):
        check(str(tmp_path))
    with pytest.raises(UsageError, match="--root is the folder of a registered corpus"):
        check(str(table("a,train,one,0\n")), tmp_path)


def test_a_folder_is_recognised_by_its_layout_or_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> Callable[..., Corpus]:
        return lambda given, root: corpus(name=given) if given in name.split("+") else refuse()

    def refuse() -> Corpus:
        raise UsageError("another layout")

    monkeypatch.setattr(module, "load_corpus", load("meld"))
    assert check(str(tmp_path)).name == "meld"
    monkeypatch.setattr(module, "load_corpus", load("mosi+sims"))
    with pytest.raises(UsageError, match="fits mosi, sims: say which"):
        check(str(tmp_path))
    (tmp_path / "sims").mkdir()
    assert check(str(tmp_path / "sims")).name == "sims"


@pytest.mark.skipif(
    not (Path(os.environ.get("MMSA_DATA", "/nowhere")) / "mosi").is_dir(), reason="MMSA_DATA has no mosi"
)
def test_the_real_mosi_has_no_problems_and_the_real_sims_shares_its_videos() -> None:
    assert check("mosi").problems == 0
    sims = check("sims")
    (problem,) = [f for f in sims.findings if f.severity == "problem"]
    assert (problem.kind, problem.clip) == ("duplicate", "video_0049$_$0007")  # one line, cut into two clips
    assert any("in more than one split, as in the official release" in f.message for f in sims.findings)
