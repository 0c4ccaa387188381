"""Features and labels of a corpus as batches for a head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extractors.sequence import FeatureSequence
from fusion import ModalitySequence
from mmsa.corpora.clip import Corpus, Split
from mmsa.features import FeatureTable
from mmsa.tasks import Classification, Task


@dataclass(frozen=True, eq=False)
class Batch:
    """Some clips of a split.

    Attributes:
        inputs: per modality, padded to the longest clip of the batch.
        labels: per task `(B,)` float32: score or class index, NaN where unlabelled.
        index: `(B,)` int64, positions in the split.
    """

    inputs: dict[str, ModalitySequence]
    labels: dict[str, Tensor]
    index: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        return Batch(
            {key: sequence.to(device) for key, sequence in self.inputs.items()},
            {key: label.to(device) for key, label in self.labels.items()},
            self.index.to(device),
        )


class SplitData:
    """One split of a corpus, read from feature tables by index.

    Args:
        corpus: the clips and tasks.
        tables: features by modality, in corpus order.
        split: which split.
        tasks: which labels.
    """

    def __init__(self, corpus: Corpus, tables: Mapping[str, FeatureTable], split: Split, tasks: Sequence[Task]) -> None:
        self.rows = np.flatnonzero([clip.split == split for clip in corpus.clips])
        self.clips = corpus.split(split)
        self.tables = dict(sorted(tables.items()))
        self.labels = {task.name: self._encode(task) for task in tasks}

    def __len__(self) -> int:
        return len(self.rows)

    def _encode(self, task: Task) -> NDArray[np.float32]:
        labels = [clip.labels.get(task.name) for clip in self.clips]
        return np.array([np.nan if label is None else task.encode(label) for label in labels], np.float32)

    def batch(self, index: NDArray[np.int64]) -> Batch:
        """The clips at these positions of the split."""
        inputs = {
            key: ModalitySequence.pad([self._steps(table, self.rows[i]) for i in index])
            for key, table in self.tables.items()
        }
        labels = {key: torch.from_numpy(values[index]) for key, values in self.labels.items()}
        return Batch(inputs, labels, torch.from_numpy(index))

    @staticmethod
    def _steps(table: FeatureTable, row: int) -> Tensor:
        start, end = table.offsets[row], table.offsets[row + 1]
        return torch.from_numpy(np.array(table.values[start:end]))

    def batches(self, size: int, generator: np.random.Generator | None = None) -> Iterator[Batch]:
        """All clips once: in order, or shuffled by a generator."""
        order = np.arange(len(self)) if generator is None else generator.permutation(len(self))
        for start in range(0, len(self), size):
            yield self.batch(order[start : start + size])


def inputs_from(sequences: Mapping[str, FeatureSequence]) -> dict[str, ModalitySequence]:
    """One clip's feature sequences as a batch of one."""
    return {key: ModalitySequence.pad([torch.from_numpy(seq.values)]) for key, seq in sorted(sequences.items())}


def target_matrix(tasks: Sequence[Task], labels: Mapping[str, Tensor]) -> Tensor:
    """`(B, O)` in the layout of predictions: scores, and one-hot classes; NaN where a clip has no label."""
    columns = []
    for task in tasks:
        label = labels[task.name]
        if isinstance(task, Classification):
            known = ~label.isnan()
            one_hot = torch.nn.functional.one_hot(label.nan_to_num().long(), task.output_dim).to(label.dtype)
            columns.append(torch.where(known.unsqueeze(1), one_hot, torch.nan))
        else:
            columns.append(label.unsqueeze(1))
    return torch.cat(columns, dim=1)
