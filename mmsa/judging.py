"""`Judge`: a trained model on the clips of one split, measured by the labels of their corpus."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsa.corpora.clip import Corpus, Split
from mmsa.tasks import Task
from mmsa.transfer import TaskMap

if TYPE_CHECKING:
    import torch

    from mmsa.features import FeatureTable
    from mmsa.model import MultimodalModel

Outputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Judge:
    """Answers of a model as a corpus's tasks, and their metrics.

    Attributes:
        model: on `device`.
        learned: the model's tasks, in the order of its outputs.
        maps: how they are judged.
        corpus: the clips; only those of `split` are looked at.
        split: which split.
        device: where the model is.
    """

    model: MultimodalModel
    learned: Sequence[Task]
    maps: Sequence[TaskMap]
    corpus: Corpus
    split: Split
    device: torch.device

    @property
    def clips(self) -> tuple[str, ...]:
        """Ids of the clips under test."""
        return tuple(clip.id for clip in self.corpus.split(self.split))

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What is judged."""
        return tuple(found.task for found in self.maps)

    @property
    def labels(self) -> dict[str, NDArray[np.float32]]:
        """`(N,)` or `(N, C)` by task; NaN where a clip is not judged."""
        clips = self.corpus.split(self.split)
        return {found.task.name: found.labels(clips) for found in self.maps}

    def answer(self, tables: Mapping[str, FeatureTable], modalities: Collection[str]) -> Outputs:
        """What the model says, `(N, output_dim)` by judged task.

        Args:
            tables: features of the whole corpus, by modality, as they were extracted; with those of other modalities
                that decide where steps lie, if the model has a grid.
            modalities: those that the model is given.
        """
        from mmsa.data import SplitData
        from mmsa.evaluation import predict
        from mmsa.features.aligned import align_tables

        # Without labels: those of another corpus need not be such that the model's own tasks can read them.
        bare = replace(self.corpus, clips=tuple(replace(clip, labels={}) for clip in self.corpus.clips))
        if self.model.config.grid is not None:
            tables = align_tables(self.corpus, tables, self.model.config.grid)
        data = SplitData(bare, tables, self.split, self.learned)
        found = predict(self.model, data, self.learned, device=self.device, modalities=modalities)
        return {own.task.name: own.outputs(found.outputs[own.model.name]) for own in self.maps}

    def measure(self, outputs: Mapping[str, NDArray[np.float32]]) -> dict[str, float]:
        """Every metric, as `"<task>.<metric>"`."""
        from mmsa.metrics import compute_metrics

        labels = self.labels
        return {
            f"{task.name}.{name}": value
            for task in self.tasks
            for name, value in compute_metrics(task, outputs[task.name], labels[task.name]).items()
        }
