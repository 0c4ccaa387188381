from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from mmsa.corpora import load_corpus
from mmsa.corpora.clip import Clip
from mmsa.corpora.iemocap import load_iemocap
from mmsa.errors import UsageError
from mmsa.tasks import Classification, Regression

EVALUATION = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2500 - 8.1250]\t{dialogue}_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
A-E3:\tval 3; act 2; dom  2;\t()

[10.0100 - 11.3925]\t{dialogue}_F001\texc\t[4.0000, 3.5000, 3.0000]
C-E2:\tExcited;\t()

[8.0000 - 9.5000]\t{dialogue}_M000\txxx\t[5.5000, 1.0000, 0.5000]
[12.0000 - 13.0000]\t{dialogue}_M001\tfru\t[1.0000, 5.0000, 4.6667]
"""
TRANSCRIPTION = """{dialogue}_F000 [006.2500-008.1250]: Good morning.
{dialogue}_FXX0 [008.1250-008.9000]: Um.
M: Yeah.
{dialogue}_M000 [008.0000-009.5000]: Is it raining?
{dialogue}_F001 [010.0100-011.3925]: Yes: [laughter]  pouring.
"""


def write(session: Path, dialogue: str) -> None:
    for folder, content in (("EmoEvaluation", EVALUATION), ("transcriptions", TRANSCRIPTION)):
        (session / "dialog" / folder).mkdir(parents=True, exist_ok=True)
        text = content.replace("{dialogue}", dialogue)
        (session / "dialog" / folder / f"{dialogue}.txt").write_text(text, encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small copy of the release's layout: an improvised and a scripted dialogue per session."""
    for number in range(1, 6):
        session = tmp_path / f"Session{number}"
        write(session, f"Ses0{number}F_impro01")
        write(session, f"Ses0{number}M_script01_1b")
        # What a copy from another computer may hold beside the tables, and what the release itself holds.
        (session / "dialog" / "EmoEvaluation" / "._Ses01F_impro01.txt").write_bytes(b"\0\5\xff")
        (session / "dialog" / "EmoEvaluation" / "Categorical").mkdir()
    return tmp_path


def by_id(root: Path) -> dict[str, Clip]:
    return {clip.id: clip for clip in load_iemocap(root).clips}


def test_a_turn_is_read_whole(root: Path) -> None:
    assert by_id(root)["Ses01F_impro01_F000"] == Clip(
        id="Ses01F_impro01_F000",
        split="train",
        labels={"emotion_4": "neutral", "emotion_6": "neutral", "valence": 2.5, "arousal": 2.5, "dominance": 2.5},
        transcript="Good morning.",
        speaker="Ses01F",
        dialogue="Ses01F_impro01",
        turn=0,
        attributes={"setting": "improvised", "emotion": "neutral"},
    )


def test_turns_follow_time_and_speakers_follow_the_turn(root: Path) -> None:
    clips = [clip for clip in load_iemocap(root).clips if clip.dialogue == "Ses02M_script01_1b"]
    assert [(clip.id[-4:], clip.turn, clip.speaker, clip.transcript) for clip in clips] == [
        ("F000", 0, "Ses02F", "Good morning."),
        ("M000", 1, "Ses02M", "Is it raining?"),
        ("F001", 2, "Ses02F", "Yes: [laughter]  pouring."),
        ("M001", 3, "Ses02M", None),
    ]
    assert {clip.attributes["setting"] for clip in clips} == {"scripted"}


def test_labels_of_both_sets(root: Path) -> None:
    clips = by_id(root)
    labels = {key[-4:]: clip.labels for key, clip in clips.items() if key.startswith("Ses01F_impro01")}
    assert labels["F001"] == {
        "emotion_4": "happy",
        "emotion_6": "excited",
        "valence": 4.0,
        "arousal": 3.5,
        "dominance": 3.0,
    }
    assert labels["M001"] == {"emotion_6": "frustrated", "valence": 1.0, "arousal": 5.0, "dominance": 4.6667}
    corpus = load_iemocap(root)
    assert corpus.tasks == (
        Classification("emotion_4", ("angry", "happy", "sad", "neutral")),
        Classification("emotion_6", ("happy", "sad", "neutral", "angry", "excited", "frustrated")),
        *(Regression(name, 1, 5) for name in ("valence", "arousal", "dominance")),
    )
    assert corpus.default_tasks == ("emotion_4",)


def test_ratings_off_the_scale_are_no_labels_but_stay_visible(root: Path) -> None:
    clip = by_id(root)["Ses01F_impro01_M000"]
    assert clip.labels == {"arousal": 1.0}
    assert clip.attributes == {
        "setting": "improvised",
        "emotion": "no agreement",
        "out_of_scale": "valence 5.5, dominance 0.5",
    }


@pytest.mark.parametrize(("test", "valid"), [(1, 5), (2, 1), (3, 2), (4, 3), (5, 4)])
def test_one_session_tests_and_the_one_before_it_validates(root: Path, test: int, valid: int) -> None:
    corpus = load_corpus(f"iemocap-session{test}", root)
    assert corpus == replace(load_iemocap(root, test), language="en")
    assert corpus.name == f"iemocap-session{test}"
    assert corpus.note.startswith(f"Session {test} of 5 left out: published figures are means over all five")
    assert {clip.speaker for clip in corpus.split("test")} == {f"Ses0{test}F", f"Ses0{test}M"}
    assert {clip.speaker for clip in corpus.split("valid")} == {f"Ses0{valid}F", f"Ses0{valid}M"}
    assert Counter(clip.split for clip in corpus.clips) == {"train": 24, "valid": 8, "test": 8}


def test_media_is_the_stretch_of_the_video_or_the_wav_of_the_turn(root: Path) -> None:
    session = root / "Session3"
    wav = session / "sentences" / "wav" / "Ses03F_impro01" / "Ses03F_impro01_M001.wav"
    wav.parent.mkdir(parents=True)
    wav.touch()
    clips = by_id(root)
    assert (clips["Ses03F_impro01_M001"].media, clips["Ses03F_impro01_M001"].start_seconds) == (wav, None)
    assert clips["Ses03F_impro01_M000"].media is None
    video = session / "dialog" / "avi" / "DivX" / "Ses03F_impro01.avi"
    video.parent.mkdir(parents=True)
    video.touch()
    clip = by_id(root)["Ses03F_impro01_M001"]
    assert (clip.media, clip.start_seconds, clip.end_seconds) == (video, 12.0, 13.0)
    assert by_id(root)["Ses03M_script01_1b_M001"].media is None


def test_without_transcriptions_the_clips_have_no_words(root: Path) -> None:
    (root / "Session1" / "dialog" / "transcriptions" / "Ses01F_impro01.txt").unlink()
    clips = by_id(root)
    assert clips["Ses01F_impro01_F000"].transcript is None
    assert clips["Ses01M_script01_1b_F000"].transcript == "Good morning."


def test_missing_sessions_are_all_named(root: Path) -> None:
    (root / "Session2").rename(root / "2")
    for table in (root / "Session4" / "dialog" / "EmoEvaluation").glob("Ses*"):
        table.unlink()
    with pytest.raises(UsageError, match=r"no dialog/EmoEvaluation/Ses….txt in Session2, Session4; give the folder"):
        load_iemocap(root)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "[1.0 - 2.0]\tSes01F_impro01_F009\tneu",
            r"line 12: expected \[start - end\], turn, emotion, \[V, A, D\], not",
        ),
        ("[1.0 - 2.0]\tSes01F_impro01_F009\tbored\t[1, 2, 3]", "line 12: the emotion must be one of ang, .* 'bored'"),
        ("[1.0 - 2.0]\tSes01F_impro01_F009\tneu\t[1, 2]", "line 12: expected 3 ratings, not 2"),
        ("[1.0 - 2.0]\tSes01F_impro01_F009\tneu\t[1, 2, x]", "line 12: could not convert string to float"),
        ("[1.0.0 - 2.0]\tSes01F_impro01_F009\tneu\t[1, 2, 3]", "line 12: could not convert string to float"),
        ("[1.0 - 2.0]\tSes01F_impro01_F000\tneu\t[1, 2, 3]", "not IEMOCAP's release: .* twice: Ses01F_impro01_F000"),
    ],
)
def test_lines_that_cannot_be_are_named(root: Path, line: str, message: str) -> None:
    with (root / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UsageError, match=message):
        load_iemocap(root)


def test_other_refusals(root: Path) -> None:
    with pytest.raises(ValueError, match="test_session must be one of 1 to 5, not 6"):
        load_iemocap(root, 6)
    odd = root / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_other.txt"
    odd.touch()
    with pytest.raises(UsageError, match=r"Ses01F_other\.txt: the name of a dialogue must contain _impro or _script"):
        load_iemocap(root)
    odd.unlink()
    (root / "Session1" / "dialog" / "transcriptions" / "Ses01F_impro01.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UsageError, match=r"transcriptions/Ses01F_impro01\.txt must be UTF-8"):
        load_iemocap(root)


@pytest.mark.skipif(
    not (Path(os.environ.get("MMSA_DATA", "/nowhere")) / "iemocap").is_dir(), reason="MMSA_DATA holds no iemocap"
)
def test_the_real_release_holds_what_was_published() -> None:
    """Busso et al.: 10,039 turns. Yoon et al.: 1103 angry, 1636 happy, 1084 sad, 1708 neutral."""
    corpus = load_corpus("iemocap")
    assert len(corpus.clips) == 10039
    counts = Counter(clip.labels["emotion_4"] for clip in corpus.clips if "emotion_4" in clip.labels)
    assert counts == {"angry": 1103, "happy": 1636, "sad": 1084, "neutral": 1708}
