"""Features and labels of a corpus as batches for a head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from extractors.sequence import FeatureSequence
from fusion import ModalitySequence
from mmsa.batching import CPU_PART_STEPS, cut, cut_parts, sorted_batches
from mmsa.corpora.clip import Corpus, Split
from mmsa.features import FeatureTable
from mmsa.steps import Moments, Steps, moments
from mmsa.tasks import Classification, MultiLabel, Task

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Batch:
    """Some clips of a split.

    Attributes:
        inputs: per modality, padded to the longest clip of the batch.
        labels: per task `(B,)` float32, score or class index, or `(B, C)`, ones and zeros; NaN where unlabelled.
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
        steps: the tables as tensors, which splits of one corpus share; None maps them for the CPU.
        device: where batches are wanted.

    Attributes:
        rows: `(N,)`, the clips' positions in the corpus.
        lengths: `(N, M)`, steps of each clip in each modality, in the order of `tables`.
    """

    def __init__(
        self,
        corpus: Corpus,
        tables: Mapping[str, FeatureTable],
        split: Split,
        tasks: Sequence[Task],
        *,
        steps: Mapping[str, Steps] | None = None,
        device: torch.device = CPU,
    ) -> None:
        self.rows = np.flatnonzero([clip.split == split for clip in corpus.clips])
        self.clips = corpus.split(split)
        self.tables = dict(sorted(tables.items()))
        self.labels = {task.name: self._encode(task) for task in tasks}
        self.device = device
        self.steps = steps or {key: Steps(table, device) for key, table in self.tables.items()}
        self.starts = {key: table.offsets[:-1][self.rows] for key, table in self.tables.items()}
        lengths = [np.diff(table.offsets)[self.rows] for table in self.tables.values()]
        self.lengths = np.stack(lengths, axis=1) if lengths else np.zeros((len(self), 0), np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def _encode(self, task: Task) -> NDArray[np.float32]:
        """`(N,)`, or `(N, C)` where several classes may hold."""
        shape = (task.output_dim,) if isinstance(task, MultiLabel) else ()
        encoded = np.full((len(self.clips), *shape), np.nan, np.float32)
        for row, clip in enumerate(self.clips):
            if (label := clip.labels.get(task.name)) is not None:
                encoded[row] = task.encode(label)
        return encoded

    def batch(self, index: NDArray[np.int64]) -> Batch:
        """The clips at these positions of the split."""
        inputs = {
            key: self.steps[key].gather(self.starts[key][index], self.lengths[index, column])
            for column, key in enumerate(self.tables)
        }
        return Batch(inputs, self.label_tensors(index), torch.from_numpy(index).to(self.device))

    def label_tensors(self, index: NDArray[np.int64]) -> dict[str, Tensor]:
        """The labels of the clips at these positions, as in a batch."""
        return {key: torch.from_numpy(values[index]).to(self.device) for key, values in self.labels.items()}

    def batches(self, size: int, generator: np.random.Generator | None = None) -> Iterator[Batch]:
        """All clips once: in order, or shuffled by a generator."""
        order = np.arange(len(self)) if generator is None else generator.permutation(len(self))
        yield from map(self.batch, cut(order, size))

    def batches_by_length(self, size: int, costs: NDArray[np.int64] | None = None) -> Iterator[Batch]:
        """All clips once, in batches of like length, smaller ones of long clips; `index` says which they are.

        Args:
            size: most clips of a batch.
            costs: see `parts_by_length`.
        """
        yield from map(self.batch, self.parts_by_length(size, costs))

    def parts_by_length(self, size: int, costs: NDArray[np.int64] | None = None) -> list[NDArray[np.int64]]:
        """Positions of the clips of each batch of `batches_by_length`.

        Args:
            size: most clips of a batch.
            costs: `(M,)`, what a step of each modality counts; None is 1.
        """
        lengths = self.lengths if costs is None else self.lengths * costs
        batches = sorted_batches(lengths, size)
        if self.device.type != "cpu":
            return batches
        return [small for batch in batches for small in cut_parts(lengths, batch, CPU_PART_STEPS)]

    def present(self, index: NDArray[np.int64]) -> NDArray[np.bool_]:
        """`(B, M)`: which clips have which modality, in the order of `tables`."""
        return self.lengths[index] > 0

    def permuted(self, modality: str, generator: np.random.Generator) -> SplitData:
        """The same split, but each clip that has a modality got another clip's; what it tells of a clip is lost."""
        other = copy(self)
        column = list(self.tables).index(modality)
        have = generator.permutation(np.flatnonzero(self.lengths[:, column]))
        other.starts = {key: starts.copy() for key, starts in self.starts.items()}
        other.lengths = self.lengths.copy()
        other.starts[modality][have] = self.starts[modality][np.roll(have, 1)]
        other.lengths[have, column] = self.lengths[np.roll(have, 1), column]
        return other

    def moments(self, modality: str) -> Moments:
        """Sums over all real steps of the split, in one pass over the table; memory is bounded."""
        return moments(self.tables[modality], self.rows)


def inputs_from(sequences: Mapping[str, FeatureSequence]) -> dict[str, ModalitySequence]:
    """One clip's feature sequences as a batch of one."""
    return {key: ModalitySequence.pad([torch.from_numpy(seq.values)]) for key, seq in sorted(sequences.items())}


def target_matrix(tasks: Sequence[Task], labels: Mapping[str, Tensor]) -> Tensor:
    """`(B, O)` in the layout of predictions: scores, and ones and zeros for classes; NaN where a clip has no label."""
    columns = []
    for task in tasks:
        label = labels[task.name]
        if isinstance(task, Classification):
            known = ~label.isnan()
            one_hot = torch.nn.functional.one_hot(label.nan_to_num().long(), task.output_dim).to(label.dtype)
            columns.append(torch.where(known.unsqueeze(1), one_hot, torch.nan))
        else:
            columns.append(label.view(len(label), task.output_dim))
    return torch.cat(columns, dim=1)
