"""MUStARD: sarcasm in 690 utterances from television series, each with the utterances before it.

Castro et al., "Towards Multimodal Sarcasm Detection (An _Obviously_ Perfect Paper)", ACL 2019. Two settings are
published: the mean over five folds, in which speakers recur, and a speaker-independent one, which tests on "Friends"
and trains on all other shows. Neither has a validation split: one is carved from training here (`VALID_SHARE`).
"""

from __future__ import annotations

import hashlib
import json
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
FOLD_NOTE = "Fold {fold} of {folds}: published figures are means over all {folds} folds."

Records = dict[str, dict[str, Any]]


def load_mustard(root: Path, fold: int = 0) -> Corpus:
    """One of the five published folds: it is the test split, the other four are training and validation.

    The folder holds `sarcasm_data.json` and `folds_5.csv` (`index,id,test_fold`: the authors' `split_indices.p` as
    text) and, if at hand, the clips as `utterances_final/<id>.mp4` or, as in the authors' repository,
    `videos/utterances_final/<id>.mp4`. Clips without a media file are text only. The utterances before a clip are in
    its attributes `context` and `context_speakers` (JSON lists of text); media of the context is not read.

    Args:
        root: the folder.
        fold: 0 to 4.

    Raises:
        UsageError: a file is missing, holds what it cannot, or the two do not name the same clips.
        ValueError: no such fold.
    """
    if fold not in range(FOLDS):
        raise ValueError(f"fold must be one of 0 to {FOLDS - 1}, not {fold!r}")
    records = _read_records(root / "sarcasm_data.json")
    folds = _read_folds(root / "folds_5.csv", records)
    test = {key for key, own in folds.items() if own == fold}
    return _corpus(f"mustard-fold{fold}", root, records, test, FOLD_NOTE.format(fold=fold, folds=FOLDS))


def load_speaker_independent(root: Path) -> Corpus:
    """The speaker-independent setting: tested on "Friends", trained and validated on the other shows.

    The folder is that of `load_mustard`; the folds are not needed.

    Raises:
        UsageError: the file is missing or holds what it cannot.
    """
    records = _read_records(root / "sarcasm_data.json")
    test = {key for key, record in records.items() if record["show"] == TEST_SHOW}
    return _corpus("mustard-speaker-independent", root, records, test, "")


fold_0, fold_1, fold_2, fold_3, fold_4 = (partial(load_mustard, fold=fold) for fold in range(FOLDS))


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


def _corpus(name: str, root: Path, records: Records, test: set[str], note: str) -> Corpus:
    valid = _carve(records, records.keys() - test)

    def split(key: str) -> Split:
        return "test" if key in test else "valid" if key in valid else "train"

    try:
        return Corpus(name, tuple(_clip(root, key, record, split(key)) for key, record in records.items()), TASKS, note)
    except ValueError as error:
        raise UsageError(f"{root / 'sarcasm_data.json'} is not MUStARD's: {error}") from None


def _clip(root: Path, key: str, record: Mapping[str, Any], split: Split) -> Clip:
    candidates = (root / folder / f"{key}.mp4" for folder in MEDIA)
    return Clip(
        id=key,
        split=split,
        labels={"sarcasm": TASKS[0].classes[record["sarcasm"]]},
        media=next((path for path in candidates if path.is_file()), None),
        transcript=record["utterance"] or None,
        speaker=record["speaker"],
        dialogue=key,
        turn=len(record["context"]),
        attributes={
            "show": record["show"],
            "context": json.dumps(record["context"], ensure_ascii=False),
            "context_speakers": json.dumps(record["context_speakers"], ensure_ascii=False),
        },
    )
