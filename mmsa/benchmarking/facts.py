"""What a report must know of a corpus's clips: who speaks, how long, in which dialogue; never what is said."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from extractors.text.words import word_spans
from mmsa.benchmarking.store import plain_name, write_atomically
from mmsa.corpora.clip import SPLITS, Clip, Corpus
from mmsa.tasks import Task

MOST_VALUES = 20
"""Of an attribute that sorts clips; one with more says something of each by itself, such as its context."""


@dataclass(frozen=True)
class ClipFacts:
    """What slices and clusters need to know of a clip.

    Attributes:
        speaker: who speaks.
        dialogue: which dialogue or video.
        words: in the transcript, in Chinese and Japanese characters; None without one.
        seconds: of media, where start and end are known.
        congruent: whether the modalities say the same, where the corpus says it.
        attributes: those of the corpus that sort its test clips into at most `MOST_VALUES` parts.
    """

    speaker: str | None = None
    dialogue: str | None = None
    words: int | None = None
    seconds: float | None = None
    congruent: bool | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CorpusFacts:
    """What a report needs to know of a corpus.

    Attributes:
        name: its name.
        note: what must be read with every number on it.
        counts: clips per split.
        clips: the test split's, by id.
    """

    name: str
    note: str
    counts: Mapping[str, int]
    clips: Mapping[str, ClipFacts]


def corpus_facts(corpus: Corpus) -> CorpusFacts:
    """What a report needs to know of a corpus."""
    tested = corpus.split("test")
    sorting = _sorting_attributes(tested)
    return CorpusFacts(
        corpus.name,
        corpus.note,
        {split: len(corpus.split(split)) for split in SPLITS},
        {clip.id: _clip_facts(clip, corpus.tasks, sorting) for clip in tested},
    )


def _sorting_attributes(clips: Sequence[Clip]) -> frozenset[str]:
    values: defaultdict[str, set[str]] = defaultdict(set)
    for clip in clips:
        for name, value in clip.attributes.items():
            if len(values[name]) <= MOST_VALUES:
                values[name].add(value)
    return frozenset(name for name, found in values.items() if len(found) <= MOST_VALUES)


def _clip_facts(clip: Clip, tasks: Sequence[Task], sorting: frozenset[str]) -> ClipFacts:
    known = clip.start_seconds is not None and clip.end_seconds is not None
    return ClipFacts(
        clip.speaker,
        clip.dialogue,
        len(word_spans(clip.transcript)) if clip.transcript else None,
        round(clip.end_seconds - clip.start_seconds, 3) if known else None,  # type: ignore[operator]
        _congruent(clip, tasks),
        {name: value for name, value in clip.attributes.items() if name in sorting},
    )


def _congruent(clip: Clip, tasks: Sequence[Task]) -> bool | None:
    """Whether no two modalities contradict each other.

    The corpus says so itself (attribute `congruent`), or its labels of single modalities do, as CH-SIMS's
    `sentiment_text`, `sentiment_audio` and `sentiment_vision`: not congruent where one is positive and one negative.
    """
    said = clip.attributes.get("congruent")
    if said in ("yes", "no"):
        return said == "yes"
    names = {task.name for task in tasks}
    own = [
        float(label)
        for name, label in clip.labels.items()
        if isinstance(label, float | int) and name.rpartition("_")[0] in names
    ]
    return None if len(own) < 2 else not (min(own) < 0 < max(own))


def save_facts(out: Path, name: str, facts: CorpusFacts) -> None:
    """Keep what the report needs of a corpus, under the name that the settings have for it."""
    with write_atomically(out / "corpora" / f"{plain_name(name)}.json") as file:
        json.dump(asdict(facts), file, indent=1, ensure_ascii=False)


def load_facts(out: Path, name: str) -> CorpusFacts | None:
    """What `save_facts` kept; None where it kept nothing."""
    path = out / "corpora" / f"{plain_name(name)}.json"
    if not path.is_file():
        return None
    data = json.loads(path.read_text(encoding="utf-8"))
    return CorpusFacts(
        data["name"], data["note"], data["counts"], {key: ClipFacts(**own) for key, own in data["clips"].items()}
    )
