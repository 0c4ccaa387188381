"""What the processes beside the main one have in place of an MLflow run and its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmsa.checkpoint import Checkpoint, Checkpoints
from mmsa.distributed import broadcast_tensor
from mmsa.tracking import Tracker

if TYPE_CHECKING:
    from mmsa.distributed import Group


class FollowingTracker(Tracker):
    """A run that the main process writes; here nothing is.

    Args:
        run_id: MLflow's.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__(None, run_id, "")

    def params(self, values: Mapping[str, Any]) -> None:
        """Nothing."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Nothing."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Nothing."""

    def artifacts(self, folder: Path, to: str | None = None) -> None:
        """Nothing."""


class SharedCheckpoints(Checkpoints):
    """Checkpoints that the main process writes and reads for all; the others need not see its disk.

    Args:
        own: the main process's, and of the same run in the others.
        group: every process of which calls `load`.
    """

    def __init__(self, own: Checkpoints, group: Group) -> None:
        super().__init__(own.folder, own.identity, own.environment, every_updates=own.every_updates)
        self.group = group

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write in the main process (see `Checkpoints.save`)."""
        if self.group.is_main:
            super().save(tensors, facts)

    def load(self) -> Checkpoint | None:
        """The newest one, in every process (see `Checkpoints.load`)."""
        found: list[Checkpoint | None] = []

        def read() -> tuple[dict[str, tuple[torch.Size, torch.dtype]], Mapping[str, Any]] | None:
            own = super(SharedCheckpoints, self).load()
            found.append(own)
            if own is None:
                return None
            return {key: (value.shape, value.dtype) for key, value in own.tensors.items()}, own.facts

        told = self.group.share(read)
        if told is None:
            return None
        shapes, facts = told
        kept = found[0].tensors if found and found[0] is not None else {}
        tensors = {
            key: kept[key] if key in kept else torch.empty(about[0], dtype=about[1]) for key, about in shapes.items()
        }
        for value in tensors.values():
            broadcast_tensor(value, self.group.patient)
        return Checkpoint(tensors, facts)

    def delete(self) -> None:
        """Remove it, in the main process."""
        if self.group.is_main:
            super().delete()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run, in the main process."""
        with super().locked() if self.group.is_main else nullcontext():
            yield
