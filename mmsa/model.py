"""`MultimodalModel`: normaliser, common grid and head as one module, the same in training and in scoring."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fusion import FusionHead, FusionOutput, ModalitySequence, common_grid, head_class
from fusion.grid import shared_steps
from mmsa.data import SplitData
from mmsa.errors import UsageError
from mmsa.tasks import Classification, MultiLabel, Task

CLAMP = 10.0
"""Largest normalised value, in standard deviations: a sensor's outlier must not drive a prediction."""


@dataclass(frozen=True)
class ModelConfig:
    """What is needed to build a model again; plain JSON values through `vars`.

    Attributes:
        head: short name of the fusion head.
        input_dims: features per modality.
        output_dim: number of outputs.
        head_options: keyword arguments of the head.
        grid_steps: steps of the common grid, used when the head needs alignment; None for features that are aligned.
    """

    head: str
    input_dims: dict[str, int]
    output_dim: int
    head_options: dict[str, Any] = field(default_factory=dict)
    grid_steps: int | None = 32


class Normaliser(nn.Module):
    """Per-feature mean and standard deviation of one modality, fitted on the training split.

    Args:
        dim: number of features.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def fit(self, data: SplitData, modality: str) -> None:
        """Read the training split once, in double precision; constant features keep scale 1."""
        sums = data.moments(modality)
        mean = sums.total / max(sums.count, 1)
        variance = (sums.squares / max(sums.count, 1) - mean**2).clamp(min=0)
        constant = variance <= 1e-10 * (1 + mean**2)
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(constant, 1.0, variance.sqrt()))

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        """Normalise and clamp the real steps; the others are zero. One copy is made, since batches may be large."""
        values = (sequence.values - self.mean).div_(self.scale).clamp_(-CLAMP, CLAMP)
        return ModalitySequence(values.masked_fill_(~sequence.mask.unsqueeze(-1), 0.0), sequence.mask)


class MultimodalModel(nn.Module):
    """From feature sequences, as extractors give them, to predictions.

    Args:
        config: head and sizes.

    Raises:
        UsageError: the head does not take these options.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.normalisers = nn.ModuleDict({key: Normaliser(dim) for key, dim in sorted(config.input_dims.items())})
        self.head = build_head(config)

    def forward(self, inputs: Mapping[str, ModalitySequence]) -> FusionOutput:
        """Predict a batch; modalities that are left out are missing."""
        output: FusionOutput = self.head(self.prepare(inputs))
        return output

    def prepare(self, inputs: Mapping[str, ModalitySequence]) -> dict[str, ModalitySequence]:
        """Normalised inputs, on one grid where the head needs that."""
        normalised = {key: self.normalisers[key](sequence) for key, sequence in sorted(inputs.items())}
        if not self.head.needs_alignment:
            return normalised
        if self.config.grid_steps is not None:
            return common_grid(normalised, self.config.grid_steps)
        try:
            return shared_steps(normalised)
        except ValueError as error:
            raise UsageError(f"{error}, with grid_steps, such as 32") from None


def build_head(config: ModelConfig) -> FusionHead:
    """The head of a configuration.

    Raises:
        UsageError: unknown head, unknown option, or a value the head refuses.
    """
    kind = check_options(config.head, config.head_options)
    try:
        return kind(input_dims=config.input_dims, output_dim=config.output_dim, **config.head_options)
    except ValueError as error:
        raise UsageError(str(error)) from None
    except (TypeError, RuntimeError, ArithmeticError) as error:  # what torch says of a size that is none
        raise UsageError(f"the head {config.head!r} cannot be built with {config.head_options}: {error}") from None


def check_options(name: str, options: Collection[str]) -> type[FusionHead]:
    """The head of this name, if it takes options of these names.

    Raises:
        UsageError: unknown head or option.
    """
    import inspect

    try:
        kind = head_class(name)
    except ValueError as error:
        raise UsageError(str(error)) from None
    known = [p.name for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UsageError(f"{kind.__name__} takes no {', '.join(unknown)}; its options are {', '.join(known)}")
    return kind


def split_outputs(tasks: Sequence[Task], prediction: Tensor) -> dict[str, Tensor]:
    """The columns `(B, task.output_dim)` of each task."""
    parts: dict[str, Tensor] = {}
    start = 0
    for task in tasks:
        parts[task.name] = prediction[:, start : start + task.output_dim]
        start += task.output_dim
    return parts


def readable(tasks: Sequence[Task], prediction: Tensor) -> Tensor:
    """`(B, O)`: predictions as people read them: scores as they are, logits as the probabilities of classes."""
    parts = split_outputs(tasks, prediction)
    return torch.cat([_readable(task, parts[task.name]) for task in tasks], dim=1)


def _readable(task: Task, part: Tensor) -> Tensor:
    if isinstance(task, Classification):
        return part.softmax(dim=1)
    return part.sigmoid() if isinstance(task, MultiLabel) else part
