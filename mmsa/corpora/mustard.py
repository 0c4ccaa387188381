"""MUStARD: sarcasm in 690 utterances from television series, each with the utterances before it.

Castro et al., "Towards Multimodal Sarcasm Detection (An _Obviously_ Perfect Paper)", ACL 2019. Two settings are
published: the mean over five folds, in which speakers recur, and a speaker-independent one, which tests on "Friends"
and trains on all other shows. Neither has a validation split: one is carved from training here (`VALID_SHARE`).

What is said before each utterance is kept with it. Every setting also comes with it in the transcript: for results
"with context" there are `mustard-context-fold0` to `4` and `mustard-context-speaker-independent`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.corpora.rows import read_rows
from mmsa.errors import UsageError
from mmsa.tasks import Classification

FOLDS = 5
VALID_SHARE = 0.15
"""Share of the training clips of each class that validates instead: those whose id has the smallest SHA-256, so that
the choice depends neither on the order of the file nor on a seed."""

TEST_SHOW = "FRIENDS"
"""What the speaker-independent setting tests on, as in the authors' baseline."""

TASKS = (Classification("sarcasm", ("not sarcastic", "sarcastic")),)
KEYS: Mapping[str, type] = {
    "utterance": str,
    "speaker": str,
    "context": list,
    "context_speakers": list,
    "show": str,
    "sarcasm": bool,
}
MEDIA = ("utterances_final", "videos/utterances_final")
GENERIC = re.compile(r"PERSON\d*")
"""Speakers without a name of their own: whoever happens to speak, another person in each clip."""

CONTEXT_NOTE = "Transcripts begin with the utterances before; sound and picture are the utterance's."
GENERIC_NOTE = "{count} test clips are spoken by {names}, who are no persons: of those names others are in training."
FOLD_NOTE = "Fold {fold} of {folds}: published figures are means over all {folds} folds."

Records = dict[str, dict[str, Any]]


def load_mustard(root: Path, fold: int = 0, *, context: bool = False) -> Corpus:
    """One of the five published folds: it is the test split, the other four are training and validation.

    The folder holds `sarcasm_data.json` and `folds_5.csv` (`index,id,test_fold`: the authors' `split_indices.p` as
    text) and, if at hand, the clips as `utterances_final/<id>.mp4` or, as in the authors' repository,
    `videos/utterances_final/<id>.mp4`. Clips without a media file are text only. The utterances before a clip are in
    its attributes `context` and `context_speakers` (JSON lists of text); media of the context is not read.

    Args:
        root: the folder.
        fold: 0 to 4.
        context: whether transcripts begin with the utterances before, a line each.

    Raises:
        UsageError: a file is missing, holds what it cannot, or the two do not name the same clips.
        ValueError: no such fold.
    """
    if fold not in range(FOLDS):
        raise ValueError(f"fold must be one of 0 to {FOLDS - 1}, not {fold!r}")
    records = _read_records(root / "sarcasm_data.json")
    folds = _read_folds(root / "folds_5.csv", records)
    test = {key for key, own in folds.items() if own == fold}
    note = FOLD_NOTE.format(fold=fold, folds=FOLDS)
    return _corpus(f"mustard{'-context' * context}-fold{fold}", root, records, test, note, context)


def load_speaker_independent(root: Path, *, context: bool = False) -> Corpus:
    """The speaker-independent setting: tested on "Friends", trained and validated on the other shows.

    The folder is that of `load_mustard`; the folds are not needed. Bystanders are called PERSON and PERSON1 in all
    shows: their names are in training and test, they are not.

    Args:
        root: the folder.
        context: whether transcripts begin with the utterances before, a line each.

    Raises:
        UsageError: the file is missing or holds what it cannot.
    """
    records = _read_records(root / "sarcasm_data.json")
    test = {key for key, record in records.items() if record["show"] == TEST_SHOW}
    names = [[r["speaker"] for k, r in records.items() if (k in test) == inside] for inside in (True, False)]
    shared = sorted({name for name in {*names[0]} & {*names[1]} if GENERIC.fullmatch(name)})
    count = sum(name in shared for name in names[0])
    note = GENERIC_NOTE.format(count=count, names=" and ".join(shared)) if shared else ""
    return _corpus(f"mustard{'-context' * context}-speaker-independent", root, records, test, note, context)


fold_0, fold_1, fold_2, fold_3, fold_4 = (partial(load_mustard, fold=fold) for fold in range(FOLDS))
load_with_context = partial(load_mustard, context=True)
fold_0_with_context, fold_1_with_context, fold_2_with_context, fold_3_with_context, fold_4_with_context = (
    partial(load_with_context, fold=fold) for fold in range(FOLDS)
)
load_speaker_independent_with_context = partial(load_speaker_independent, context=True)


def _read_records(path: Path) -> Records:
    if not path.is_file():
        raise UsageError(f"{path} not found: give the folder that holds it with --root FOLDER")
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON in UTF-8: {error}") from None
    if not isinstance(records, dict):
        raise UsageError(f"{path} must hold an object with one entry per clip, not a {type(records).__name__}")
    for key, record in records.items():
        _check(f"{path}, clip {key}", record)
    return records


def _check(place: str, record: object) -> None:
    if not isinstance(record, dict):
        raise UsageError(f"{place}: must be an object, not {record!r}")
    for name, kind in KEYS.items():
        if not isinstance(record.get(name), kind):
            raise UsageError(f"{place}: {name} must be a {kind.__name__}, not {record.get(name)!r}")
    for name in ("context", "context_speakers"):
        if not all(isinstance(item, str) for item in record[name]):
            raise UsageError(f"{place}: {name} must hold text only, not {record[name]!r}")
    if len(record["context"]) != len(record["context_speakers"]):
        counts = f"{len(record['context'])} utterances and {len(record['context_speakers'])} speakers"
        raise UsageError(f"{place}: the context has {counts}")


def _read_folds(path: Path, records: Records) -> dict[str, int]:
    folds: dict[str, int] = {}
    for row in read_rows(path, ("id", "test_fold")):
        key, fold = row["id"], row.integer("test_fold")
        if key not in records:
            raise row.error("id", f"there is no clip {key!r} in sarcasm_data.json")
        if key in folds:
            raise row.error("id", f"{key!r} is given twice")
        if fold not in range(FOLDS):
            raise row.error("test_fold", f"must be one of 0 to {FOLDS - 1}, not {fold}")
        folds[key] = fold
    without = [key for key in records if key not in folds]
    if without:
        raise UsageError(f"{path} gives no fold for {len(without)} clips, such as {', '.join(without[:5])}")
    return folds


def _carve(records: Records, train: set[str]) -> set[str]:
    """The training clips that validate: the same share of each class."""
    chosen: set[str] = set()
    for sarcastic in (False, True):
        own = [key for key in train if records[key]["sarcasm"] is sarcastic]
        own.sort(key=lambda key: hashlib.sha256(key.encode()).hexdigest())
        chosen.update(own[: round(VALID_SHARE * len(own))])
    return chosen


def _corpus(name: str, root: Path, records: Records, test: set[str], note: str, context: bool) -> Corpus:
    note = " ".join(filter(None, (note, CONTEXT_NOTE if context else "")))
    valid = _carve(records, records.keys() - test)

    def split(key: str) -> Split:
        return "test" if key in test else "valid" if key in valid else "train"

    try:
        clips = tuple(_clip(root, key, record, split(key), context) for key, record in records.items())
        return Corpus(name, clips, TASKS, note)
    except ValueError as error:
        raise UsageError(f"{root / 'sarcasm_data.json'} is not MUStARD's: {error}") from None


def _clip(root: Path, key: str, record: Mapping[str, Any], split: Split, context: bool) -> Clip:
    said = [*(record["context"] if context else ()), record["utterance"]]
    candidates = (root / folder / f"{key}.mp4" for folder in MEDIA)
    return Clip(
        id=key,
        split=split,
        labels={"sarcasm": TASKS[0].classes[record["sarcasm"]]},
        media=next((path for path in candidates if path.is_file()), None),
        transcript="\n".join(filter(None, said)) or None,
        speaker=record["speaker"],
        dialogue=key,
        turn=len(record["context"]),
        attributes={
            "show": record["show"],
            "context": json.dumps(record["context"], ensure_ascii=False),
            "context_speakers": json.dumps(record["context_speakers"], ensure_ascii=False),
        },
    )
