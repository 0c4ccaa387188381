"""What a model's outputs mean on a corpus that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmsa.corpora.clip import Clip
from mmsa.errors import UsageError
from mmsa.tasks import Classification, Label, MultiLabel, Regression, Task

Outputs = NDArray[np.float32]

SAME_EMOTION = {
    "amused": "joy",
    "angry": "anger",
    "disgusted": "disgust",
    "excited": "excitement",
    "fearful": "fear",
    "frustrated": "frustration",
    "happiness": "joy",
    "happy": "joy",
    "joyful": "joy",
    "mad": "anger",
    "sad": "sadness",
    "scared": "fear",
    "surprised": "surprise",
}
"""Other words that corpora use for one emotion."""


@dataclass(frozen=True)
class TaskMap:
    """How one of the model's tasks is judged by the labels of a corpus.

    Attributes:
        model: the task as it was learned.
        task: what metrics are computed for: the corpus's task, with no other classes than the model knows.
        columns: which of the model's outputs become the task's, in order.
        scale: what regression outputs are multiplied by.
        shift: what is added then.
        notes: what a reader must know.
    """

    model: Task
    task: Task
    columns: tuple[int, ...]
    scale: float = 1.0
    shift: float = 0.0
    notes: tuple[str, ...] = ()

    def outputs(self, found: Outputs) -> Outputs:
        """The model's outputs `(N, model.output_dim)` as the task's `(N, task.output_dim)`."""
        kept = found[:, list(self.columns)]
        if (self.scale, self.shift) == (1.0, 0.0):
            return kept
        return (kept * self.scale + self.shift).astype(np.float32)

    def labels(self, clips: Sequence[Clip]) -> NDArray[np.float32]:
        """The clips' labels, `(N,)` or `(N, C)` as in `SplitData`; NaN where there is none or it is not judged."""
        shape = (len(self.task.classes),) if isinstance(self.task, MultiLabel) else ()
        found = np.full((len(clips), *shape), np.nan, np.float32)
        for row, clip in enumerate(clips):
            label = self._judged(clip.labels.get(self.task.name))
            if label is not None:
                found[row] = self.task.encode(label)
        return found

    def _judged(self, label: Label | None) -> Label | None:
        if label is None or isinstance(self.task, Regression):
            return label
        if isinstance(label, tuple):
            return tuple(name for name in label if name in self.task.classes)
        return label if label in self.task.classes else None


def map_tasks(learned: Sequence[Task], labelled: Sequence[Task], corpus: str) -> tuple[TaskMap, ...]:
    """Match the tasks of a model with those of a corpus, by name.

    Regression ranges are laid onto each other; classes are matched by name, or by another word for the same emotion.

    Args:
        learned: the model's tasks.
        labelled: the corpus's.
        corpus: its name.

    Raises:
        UsageError: nothing the model learned can be judged on this corpus.
    """
    by_name = {task.name: task for task in labelled}
    maps: list[TaskMap] = []
    reasons: list[str] = []
    for task in learned:
        found = (
            _match(task, by_name[task.name]) if task.name in by_name else f"{task.name}: {corpus} has no such labels"
        )
        if isinstance(found, TaskMap):
            maps.append(found)
        else:
            reasons.append(found)
    if not maps:
        raise UsageError(
            f"nothing this model learned can be judged on {corpus}: {'; '.join(reasons)}. The model predicts "
            f"{', '.join(task.name for task in learned)}; {corpus} has {', '.join(by_name)}"
        )
    if reasons:
        maps[0] = replace(maps[0], notes=(*maps[0].notes, *(f"not judged: {reason}" for reason in reasons)))
    return tuple(maps)


def _match(model: Task, corpus: Task) -> TaskMap | str:
    """How one task is judged, or why it cannot be."""
    if isinstance(model, Regression) and isinstance(corpus, Regression):
        return _match_ranges(model, corpus)
    if isinstance(model, Classification) and isinstance(corpus, Classification):
        return _match_classes(model, corpus)
    if isinstance(model, MultiLabel) and isinstance(corpus, MultiLabel):
        return _match_classes(model, corpus)
    kinds = [str(task.to_dict()["kind"]) for task in (model, corpus)]
    return f"{model.name}: {kinds[0]} in the model, {kinds[1]} in the corpus"


def _match_ranges(model: Regression, corpus: Regression) -> TaskMap:
    scale = (corpus.high - corpus.low) / (model.high - model.low)
    shift = corpus.low - model.low * scale
    if (model.low, model.high) == (corpus.low, corpus.high):
        return TaskMap(model, corpus, (0,))
    note = (
        f"{model.name}: predictions in [{model.low:g}, {model.high:g}] are rescaled to the labels' "
        f"[{corpus.low:g}, {corpus.high:g}]"
    )
    return TaskMap(model, corpus, (0,), scale, shift, notes=(note,))


def _match_classes(model: Classification | MultiLabel, corpus: Classification | MultiLabel) -> TaskMap | str:
    """Over the classes that both have; a single-label model chooses among these alone."""
    renamed = _same_classes(model.classes, corpus.classes)
    judged = tuple(name for name in corpus.classes if name in renamed)
    least = 1 if isinstance(model, MultiLabel) else 2
    if len(judged) < least:
        return (
            f"{model.name}: the classes {', '.join(model.classes)} of the model and {', '.join(corpus.classes)} of the "
            "corpus have too few in common"
        )
    columns = tuple(model.classes.index(renamed[name]) for name in judged)
    return TaskMap(model, replace(corpus, classes=judged), columns, notes=_class_notes(model, corpus, renamed))


def _same_classes(learned: Sequence[str], labelled: Sequence[str]) -> dict[str, str]:
    """Class of the corpus → class of the model: by the same name first, then by the same emotion; each used once."""
    renamed = {name: name for name in labelled if name in learned}
    free = {_emotion(name): name for name in reversed(learned) if name not in renamed}
    for name in labelled:
        if name not in renamed and _emotion(name) in free:
            renamed[name] = free.pop(_emotion(name))
    return renamed


def _emotion(name: str) -> str:
    return SAME_EMOTION.get(name.lower(), name.lower())


def _class_notes(
    model: Classification | MultiLabel, corpus: Classification | MultiLabel, renamed: Mapping[str, str]
) -> tuple[str, ...]:
    words = [f"{name} = {other}" for name, other in renamed.items() if name != other]
    unjudged = [name for name in corpus.classes if name not in renamed]
    unused = [name for name in model.classes if name not in renamed.values()]
    notes = []
    if words:
        notes.append(f"{model.name}: taken as the same (corpus = model): {', '.join(words)}")
    if unjudged:
        what = "these labels are" if isinstance(model, MultiLabel) else "clips with these labels are"
        notes.append(f"{model.name}: the model does not know {', '.join(unjudged)}: {what} left out")
    if unused:
        how = "not judged" if isinstance(model, MultiLabel) else "the model may not choose them"
        notes.append(f"{model.name}: the corpus does not have {', '.join(unused)}: {how}")
    return tuple(notes)
