"""`Clip` and `Corpus`: the words every adapter speaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from mmsa.tasks import Label, Task

if TYPE_CHECKING:
    from extractors.transcript import Transcript

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


STILL_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"})
"""How the names of still images end; what a file is, is decided by its content when it is read."""


@dataclass(frozen=True)
class Clip:
    """One labelled segment.

    Attributes:
        id: unique in its corpus.
        split: `"train"`, `"valid"` or `"test"`.
        labels: label by task name: a float for regression, a class name for classification, the names of the classes
            that hold for a multi-label task. A task that is not among the keys is unlabelled for this clip.
        media: the file, or None where only the transcript is at hand.
        transcript: what is said, or None where unknown.
        start_seconds: where the segment starts in `media`; None is its beginning.
        end_seconds: where the segment ends; None is the end of `media`.
        speaker: who speaks.
        dialogue: id of the conversation the clip belongs to.
        turn: position in that conversation.
        attributes: what else is known of it.
        more_media: the still images after `media`, where a post has several.
        timed: the transcript with the times of its words, where speech recognition or forced alignment gave them (see
            `mmsa.features.transcripts`); empty where no speech was recognised.
    """

    id: str
    split: Split
    labels: Mapping[str, Label]
    media: Path | None = None
    transcript: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    speaker: str | None = None
    dialogue: str | None = None
    turn: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    more_media: tuple[Path, ...] = ()
    timed: Transcript | None = None

    @property
    def may_sound(self) -> bool:
        """Whether its media may have sound: there is some, and by its name it is no still image."""
        return self.media is not None and self.media.suffix.lower() not in STILL_SUFFIXES

    @property
    def files(self) -> tuple[Path, ...]:
        """Every media file of the clip, in order."""
        return (self.media, *self.more_media) if self.media is not None else ()


@dataclass(frozen=True)
class Corpus:
    """A table of clips with splits and tasks.

    Attributes:
        name: the registry name.
        clips: every clip, in a stable order.
        tasks: what can be learned from the labels; a model is selected on the loss of all those it learns.
        note: one sentence that must be read with any number computed on this corpus, or "".
        default_tasks: names of the tasks that are learned when none are asked for; empty is all of `tasks`.
        language: ISO 639-1 code of what is said; None where unknown.
        features: by modality, the folder of ready-made features (see `mmsa.precomputed`), in the order of `clips`.

    Raises:
        ValueError: no clips, two clips with one id, an unknown split, a label out of its task's range, or a default
            task that is not among the tasks.
    """

    name: str
    clips: tuple[Clip, ...]
    tasks: tuple[Task, ...]
    note: str = ""
    default_tasks: tuple[str, ...] = ()
    features: Mapping[str, Path] = field(default_factory=dict)
    language: str | None = None

    def __post_init__(self) -> None:
        if not self.clips:
            raise ValueError(f"corpus {self.name!r} has no clips")
        twice = [key for key, n in Counter(c.id for c in self.clips).items() if n > 1]
        if twice:
            raise ValueError(f"corpus {self.name!r}: clip ids must be unique; given twice: {', '.join(twice[:5])}")
        by_name = {task.name: task for task in self.tasks}
        if not set(self.default_tasks) <= set(by_name):
            raise ValueError(f"default tasks {list(self.default_tasks)} must be among the tasks {sorted(by_name)}")
        for clip in self.clips:
            if clip.split not in SPLITS:
                raise ValueError(f"clip {clip.id!r}: split must be one of {SPLITS}, not {clip.split!r}")
            for name, label in clip.labels.items():
                if name not in by_name:
                    raise ValueError(f"clip {clip.id!r}: label for {name!r}, but the tasks are {sorted(by_name)}")
                by_name[name].encode(label)

    def split(self, name: Split) -> tuple[Clip, ...]:
        """The clips of one split, in corpus order.

        Raises:
            ValueError: `name` is not a split.
        """
        if name not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, not {name!r}")
        return tuple(clip for clip in self.clips if clip.split == name)
