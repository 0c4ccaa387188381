"""EmoryNLP: seven emotions in dialogues from a television series.

Zahiri and Choi, "Emotion Detection on TV Show Transcripts with Sequence-Based Convolutional Neural Networks", AAAI
workshops 2018. The tables with times are those that accompany MELD.
"""

from __future__ import annotations

import ast
from pathlib import Path

from mmsa.corpora.clip import SPLITS, Clip, Corpus, Split
from mmsa.corpora.rows import Row, read_rows
from mmsa.errors import UsageError
from mmsa.tasks import Classification

FILES: dict[Split, tuple[str, str]] = {
    "train": ("emorynlp_train_final.csv", "emorynlp_train_splits"),
    "valid": ("emorynlp_dev_final.csv", "emorynlp_dev_splits"),
    "test": ("emorynlp_test_final.csv", "emorynlp_test_splits"),
}
"""Table and media folder of each split."""

TASKS = (Classification("emotion", ("joyful", "mad", "neutral", "peaceful", "powerful", "sad", "scared")),)
COLUMNS = ("Utterance", "Speaker", "Emotion", "Scene_ID", "Utterance_ID", "Season", "Episode", "Start_Time", "End_Time")


def load_emorynlp(root: Path) -> Corpus:
    """Read the three tables and, if at hand, the clips.

    The clips are `emorynlp_train_splits/sea1_ep1_sc1_utt1.mp4` (season, episode, scene, utterance),
    `emorynlp_dev_splits/…` and `emorynlp_test_splits/…`; only the first folder's name and the names of the files are
    documented, the others follow from it and could not be checked. Clips without a media file are text only. A scene
    is a dialogue; utterance numbers start at 1 and have gaps. Where several people speak at once, the speaker is
    their names with commas between. Start and end are positions in the episode, not in the clip, and often wrong:
    they are kept as attributes only.

    Raises:
        UsageError: a table is missing, lacks a column, or holds what no table of EmoryNLP holds.
    """
    clips = tuple(_clip(root, split, row) for split in SPLITS for row in read_rows(root / FILES[split][0], COLUMNS))
    try:
        return Corpus("emorynlp", clips, TASKS)
    except ValueError as error:
        raise UsageError(f"the tables in {root} are not EmoryNLP's: {error}") from None


def _clip(root: Path, split: Split, row: Row) -> Clip:
    season, episode = row.integer("Season"), row.integer("Episode")
    scene, turn = row.integer("Scene_ID"), row.integer("Utterance_ID")
    emotion = row["Emotion"].lower()
    if emotion not in TASKS[0].classes:
        raise row.error("Emotion", f"must be one of {', '.join(TASKS[0].classes)}, not {row['Emotion']!r}")
    dialogue = f"sea{season}_ep{episode}_sc{scene}"
    media = root / FILES[split][1] / f"{dialogue}_utt{turn}.mp4"
    return Clip(
        id=f"{split}_{dialogue}_utt{turn}",
        split=split,
        labels={"emotion": emotion},
        media=media if media.is_file() else None,
        transcript=row["Utterance"] or None,
        speaker=", ".join(_speakers(row)),
        dialogue=f"{split}_{dialogue}",
        turn=turn,
        attributes={"start_in_episode": row["Start_Time"], "end_in_episode": row["End_Time"]},
    )


def _speakers(row: Row) -> list[str]:
    """The column `Speaker`: a list of names as Python writes it."""
    try:
        names = ast.literal_eval(row["Speaker"])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise row.error("Speaker", f"must be a list of names such as ['Ross Geller'], not {row['Speaker']!r}")
    return names
