"""IEMOCAP: emotion in improvised and scripted dialogues of ten actors, in five sessions of two.

Busso et al., "IEMOCAP: interactive emotional dyadic motion capture database", Language Resources and Evaluation 42,
2008. It is given out against a signed form: this adapter follows the published descriptions of its layout and could
not be run on the release itself.

Two label sets are customary, and both are tasks here. `emotion_4`: angry, happy, sad, neutral, with excited counted as
happy (Yoon, Byun and Jung, "Multimodal Speech Emotion Recognition Using Audio and Text", SLT 2018: 5531 turns).
`emotion_6`: happy, sad, neutral, angry, excited, frustrated (Majumder et al., "DialogueRNN", AAAI 2019). Turns of other
emotions, or on which the raters did not agree, have neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.errors import UsageError
from mmsa.tasks import Classification, Regression, Task

SESSIONS = (1, 2, 3, 4, 5)
CODES = {
    "ang": "angry",
    "dis": "disgusted",
    "exc": "excited",
    "fea": "fearful",
    "fru": "frustrated",
    "hap": "happy",
    "neu": "neutral",
    "oth": "other",
    "sad": "sad",
    "sur": "surprised",
    "xxx": "no agreement",
}
"""What the raters' codes mean."""

EMOTION_4 = Classification("emotion_4", ("angry", "happy", "sad", "neutral"))
EMOTION_6 = Classification("emotion_6", ("happy", "sad", "neutral", "angry", "excited", "frustrated"))
DIMENSIONS = ("valence", "arousal", "dominance")
TASKS: tuple[Task, ...] = (EMOTION_4, EMOTION_6, *(Regression(name, 1.0, 5.0) for name in DIMENSIONS))
SETTINGS = {"impro": "improvised", "script": "scripted"}
NOTE = (
    "Session {session} of 5 left out: published figures are means over all five, on improvised and scripted turns "
    "apart where words are used, since the scripts recur in every session."
)

EVALUATION = re.compile(
    r"\[(?P<start>[\d.]+) *- *(?P<end>[\d.]+)\]\s+(?P<turn>\w+_[FM]\w*\d+)\s+(?P<code>\w+)\s+\[(?P<ratings>[^\]]*)\]\s*"
)
TRANSCRIPTION = re.compile(r"(?P<turn>\S+) \[[\d. ]+-[\d. ]+\]: *(?P<text>.*)")


@dataclass(frozen=True)
class Turn:
    """One line of a file in `EmoEvaluation/`.

    Attributes:
        id: such as `Ses01F_impro01_F000`.
        start_seconds: in the dialogue.
        end_seconds: in the dialogue.
        code: one of `CODES`.
        ratings: valence, arousal (the release says activation) and dominance.
    """

    id: str
    start_seconds: float
    end_seconds: float
    code: str
    ratings: tuple[float, ...]


def load_iemocap(root: Path, test_session: int = 5) -> Corpus:
    """Read the release and leave one session out.

    The folder holds `Session1/` to `Session5/`, each with `dialog/EmoEvaluation/<dialogue>.txt`,
    `dialog/transcriptions/<dialogue>.txt` and, if at hand, `dialog/avi/DivX/<dialogue>.avi` or
    `sentences/wav/<dialogue>/<turn>.wav`. A turn's media is its stretch of the `.avi`, otherwise its own `.wav`,
    otherwise none. The picture shows both speakers side by side.

    The test split is one session, the validation split the one before it (5 before 1), so that no speaker is in two
    splits. By default `emotion_4` is learned. Attributes: `setting` (improvised or scripted) and `emotion` (what the
    raters agreed on). A mean rating outside of [1, 5] cannot come from the raters' scale: it is left out and kept in
    the attribute `out_of_scale`.

    Args:
        root: the folder.
        test_session: 1 to 5.

    Raises:
        UsageError: a session or an annotation is missing, or a line cannot be read.
        ValueError: no such session.
    """
    if test_session not in SESSIONS:
        raise ValueError(f"test_session must be one of 1 to 5, not {test_session!r}")
    missing = [f"Session{n}" for n in SESSIONS if not _tables(root / f"Session{n}")]
    if missing:
        raise UsageError(
            f"{root} is not IEMOCAP's release: no dialog/EmoEvaluation/Ses….txt in {', '.join(missing)}; "
            f"give the folder that holds Session1 to Session5 with --root FOLDER"
        )
    held_out: dict[int, Split] = {test_session: "test", (test_session - 2) % 5 + 1: "valid"}
    clips = tuple(clip for n in SESSIONS for clip in _session(root / f"Session{n}", held_out.get(n, "train")))
    name, note = f"iemocap-session{test_session}", NOTE.format(session=test_session)
    try:
        return Corpus(name, clips, TASKS, note, default_tasks=(EMOTION_4.name,))
    except ValueError as error:
        raise UsageError(f"{root} is not IEMOCAP's release: {error}") from None


session_1, session_2, session_3, session_4, session_5 = (partial(load_iemocap, test_session=n) for n in SESSIONS)


def _tables(folder: Path) -> list[Path]:
    """The annotations of a session, without the hidden files of some copies (`._Ses01F_impro01.txt`)."""
    return sorted((folder / "dialog" / "EmoEvaluation").glob("Ses*.txt"))


def _session(folder: Path, split: Split) -> Iterator[Clip]:
    for table in _tables(folder):
        setting = next((long for short, long in SETTINGS.items() if f"_{short}" in table.stem), None)
        if setting is None:
            raise UsageError(f"{table}: the name of a dialogue must contain _impro or _script")
        texts = _read_transcription(folder / "dialog" / "transcriptions" / table.name)
        turns = sorted(_read_evaluation(table), key=lambda turn: (turn.start_seconds, turn.id))
        for position, turn in enumerate(turns):
            yield _clip(folder, table.stem, position, turn, texts.get(turn.id), setting, split)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} must be UTF-8: {error}") from None


def _read_evaluation(path: Path) -> Iterator[Turn]:
    """The summary lines; those of single raters, which follow each, start with a letter."""
    for number, line in enumerate(_lines(path), start=1):
        if not line.startswith("["):
            continue
        place, match = f"{path}, line {number}", EVALUATION.fullmatch(line)
        if match is None:
            raise UsageError(f"{place}: expected [start - end], turn, emotion, [V, A, D], not {line!r}")
        if match["code"] not in CODES:
            raise UsageError(f"{place}: the emotion must be one of {', '.join(CODES)}, not {match['code']!r}")
        try:
            times = float(match["start"]), float(match["end"])
            ratings = tuple(float(value) for value in match["ratings"].split(","))
        except ValueError as error:
            raise UsageError(f"{place}: {error}") from None
        if len(ratings) != len(DIMENSIONS):
            raise UsageError(f"{place}: expected 3 ratings, not {len(ratings)}")
        yield Turn(match["turn"], *times, match["code"], ratings)


def _read_transcription(path: Path) -> dict[str, str]:
    """Text by turn; other lines (asides without a turn and times) belong to none. Empty where there is no file."""
    matches = (TRANSCRIPTION.fullmatch(line.strip()) for line in (_lines(path) if path.is_file() else ()))
    return {match["turn"]: match["text"].strip() for match in matches if match}


def _labels(turn: Turn) -> tuple[dict[str, float | str], dict[str, float]]:
    """Labels by task, and the ratings that are none."""
    emotion = CODES[turn.code]
    merged = "happy" if emotion == "excited" else emotion
    labels: dict[str, float | str] = {}
    if merged in EMOTION_4.classes:
        labels[EMOTION_4.name] = merged
    if emotion in EMOTION_6.classes:
        labels[EMOTION_6.name] = emotion
    ratings = dict(zip(DIMENSIONS, turn.ratings, strict=True))
    outside = {name: value for name, value in ratings.items() if not 1.0 <= value <= 5.0}
    return labels | {name: value for name, value in ratings.items() if name not in outside}, outside


def _media(folder: Path, dialogue: str, turn: Turn) -> tuple[Path | None, float | None, float | None]:
    """The file of a turn, and where in it the turn lies."""
    video = folder / "dialog" / "avi" / "DivX" / f"{dialogue}.avi"
    if video.is_file():
        return video, turn.start_seconds, turn.end_seconds
    wav = folder / "sentences" / "wav" / dialogue / f"{turn.id}.wav"
    return (wav if wav.is_file() else None), None, None


def _clip(folder: Path, dialogue: str, position: int, turn: Turn, text: str | None, setting: str, split: Split) -> Clip:
    labels, outside = _labels(turn)
    attributes = {"setting": setting, "emotion": CODES[turn.code]}
    if outside:
        attributes["out_of_scale"] = ", ".join(f"{name} {value:g}" for name, value in outside.items())
    # The letter after "Ses01" says who wears the markers; that of the turn, "_F000", says who speaks.
    speaker = turn.id[:5] + turn.id.rsplit("_", 1)[1][0]
    media, start_seconds, end_seconds = _media(folder, dialogue, turn)
    return Clip(
        id=turn.id,
        split=split,
        labels=labels,
        media=media,
        transcript=text or None,
        start_seconds=start_seconds,
        end_seconds=end_seconds,
        speaker=speaker,
        dialogue=dialogue,
        turn=position,
        attributes=attributes,
    )
