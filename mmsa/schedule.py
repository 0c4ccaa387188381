"""The learning rate over a training, and the moving average of its weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmsa.config import TrainConfig


class LearningRate:
    """The factor of the learning rate: warm-up times constant, cosine or plateau.

    The warm-up rises linearly over the first updates, the first of which already moves. The cosine falls from 1 to
    `final_share` over the updates that are left of all `epochs`, whether or not training stops early. The plateau
    multiplies by `plateau_factor` each time that `plateau_epochs` epochs passed without a better one.

    Args:
        config: schedule, warm-up and what belongs to them.
        updates_per_epoch: how often an epoch updates the weights.
    """

    def __init__(self, config: TrainConfig, updates_per_epoch: int) -> None:
        self.config = config
        self.warmup = round(config.warmup_epochs * updates_per_epoch)
        self.last = max(1, config.epochs * updates_per_epoch - 1)
        self.plateau = 1.0
        self.waited = 0

    def factor(self, update: int) -> float:
        """What the learning rate of an update is multiplied with.

        Args:
            update: counted from 0 over the whole training.
        """
        warm = min(1.0, (update + 1) / (self.warmup + 1))
        if self.config.schedule == "cosine" and update >= self.warmup:
            left = min(1.0, (update - self.warmup) / max(1, self.last - self.warmup))
            low = self.config.final_share
            return low + (1 - low) * (1 + math.cos(math.pi * left)) / 2
        return warm * self.plateau

    def after_epoch(self, *, better: bool) -> None:
        """Take note of whether an epoch was the best so far."""
        self.waited = 0 if better else self.waited + 1
        if self.config.schedule == "plateau" and self.waited >= self.config.plateau_epochs:
            self.plateau *= self.config.plateau_factor
            self.waited = 0

    def state(self) -> dict[str, Any]:
        """Plain JSON values for a checkpoint."""
        return {"plateau": self.plateau, "waited": self.waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.plateau, self.waited = float(state["plateau"]), int(state["waited"])


class MovingAverage:
    """An exponential moving average of a module's weights, which is evaluated and kept in their place.

    After update `n` (from 1), `average <- d * average + (1 - d) * weights` with `d = min(decay, n / (n + 9))`, so that
    the random start is soon forgotten. Frozen weights have none. Buffers are not averaged: they are the module's own.

    Args:
        module: whose parameters.
        decay: of the average, in (0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.parameters = {name: own for name, own in module.named_parameters() if own.requires_grad}
        self.average = {name: value.detach().clone() for name, value in self.parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an update."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 9))
        torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the module have the average for weights meanwhile."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self.parameters.items():
            held = parameter.detach().clone()
            parameter.copy_(self.average[name])
            self.average[name].copy_(held)

    def tensors(self) -> dict[str, Tensor]:
        """The averages by name, for a checkpoint."""
        return self.average

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Go on from what a checkpoint holds."""
        self.updates = updates
        for name, value in self.average.items():
            value.copy_(tensors[name])
