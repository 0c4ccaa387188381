"""`MultimodalModel`: normaliser, common grid and head as one module, the same in training and in scoring."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusion import FusionHead, FusionOutput, ModalitySequence, common_grid, head_class
from fusion.grid import padded_alike, shared_steps
from mmsa.data import SplitData
from mmsa.encoders import build_encoder
from mmsa.encoders.moments import encoder_moments
from mmsa.encoders.spec import specs_of
from mmsa.errors import UsageError
from mmsa.features.aligned import Grid
from mmsa.steps import Moments
from mmsa.tasks import Classification, MultiLabel, Task

CLAMP = 10.0
"""Largest normalised value, in standard deviations: a sensor's outlier must not drive a prediction."""


@dataclass(frozen=True)
class ModelConfig:
    """What is needed to build a model again; plain JSON values through `vars`.

    Attributes:
        head: short name of the fusion head.
        input_dims: features per modality, as the head sees them: hidden states where there is an encoder.
        output_dim: number of outputs.
        head_options: keyword arguments of the head.
        grid_steps: steps of the common grid, used when the head needs alignment; None for features that are aligned.
        encoders: by modality, those that run in front of the head (`mmsa.encoders.spec.EncoderSpec.to_dict`).
        grid: what the features of a clip are pooled onto before they reach the model (see `mmsa.features.aligned`);
            `grid_steps` is of no account then.
    """

    head: str
    input_dims: dict[str, int]
    output_dim: int
    head_options: dict[str, Any] = field(default_factory=dict)
    grid_steps: int | None = 32
    encoders: dict[str, dict[str, Any]] = field(default_factory=dict)
    grid: Grid | None = None

    def identity(self) -> dict[str, Any]:
        """All that decides the model's numbers, beside its weights; where weights were found is no part of it."""
        left_out = {"encoders"} if self.grid is not None else {"encoders", "grid"}
        found = {key: value for key, value in vars(self).items() if key not in left_out}
        encoders = {key: spec.identity() for key, spec in specs_of(self.encoders).items()}
        return {**found, "encoders": encoders} if encoders else found


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
        self.adopt(data.moments(modality))

    def adopt(self, sums: Moments) -> None:
        """Take mean and standard deviation from sums over steps."""
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

    Where a modality has an encoder, extractors give what it reads and the encoder the features.

    Args:
        config: head, sizes and encoders.
        pretrained: see `mmsa.encoders.build_encoder`.

    Raises:
        UsageError: the head does not take these options, or an encoder cannot be had.
    """

    def __init__(self, config: ModelConfig, *, pretrained: bool = True) -> None:
        super().__init__()
        self.config = config
        self.normalisers = nn.ModuleDict({key: Normaliser(dim) for key, dim in sorted(config.input_dims.items())})
        self.head = build_head(config)
        # Last, so that a head starts from the same weights with and without encoders.
        specs = specs_of(config.encoders)
        self.encoders = nn.ModuleDict({key: build_encoder(spec, pretrained=pretrained) for key, spec in specs.items()})

    def forward(self, inputs: Mapping[str, ModalitySequence]) -> FusionOutput:
        """Predict a batch; modalities that are left out are missing."""
        output: FusionOutput = self.head(self.prepare(inputs))
        return output

    def fit_normalisers(self, train: SplitData) -> None:
        """Fit every normaliser on the training split: on its features, or on hidden states of encoders as they start.

        Args:
            train: on the device of the model, where there are encoders.
        """
        for key, normaliser in self.normalisers.items():
            assert isinstance(normaliser, Normaliser)
            if key in self.encoders:
                normaliser.adopt(encoder_moments(self.encoders[key], train, key))  # type: ignore[arg-type]
            else:
                normaliser.fit(train, key)

    def step_costs(self, modalities: Sequence[str]) -> NDArray[np.int64]:
        """`(M,)`: what a step of each modality costs, in steps of a head; more than 1 for what an encoder reads."""
        specs = specs_of(self.config.encoders)
        return np.array([specs[key].step_cost if key in specs else 1 for key in modalities], np.int64)

    def prepare(self, inputs: Mapping[str, ModalitySequence]) -> dict[str, ModalitySequence]:
        """Encoded and normalised inputs, on one grid where the head needs that."""
        return self.normalise(self.encode(inputs))

    def encode(self, inputs: Mapping[str, ModalitySequence]) -> dict[str, ModalitySequence]:
        """Features of every modality: what encoders make of what they read, and the others as they are."""
        return {
            key: self.encoders[key](sequence) if key in self.encoders else sequence
            for key, sequence in sorted(inputs.items())
        }

    def normalise(self, features: Mapping[str, ModalitySequence]) -> dict[str, ModalitySequence]:
        """Normalised features, on one grid where the head needs that."""
        normalised = {key: self.normalisers[key](sequence) for key, sequence in sorted(features.items())}
        if not self.head.needs_alignment:
            return normalised
        if self.config.grid is not None:
            return padded_alike(normalised)
        if self.config.grid_steps is not None:
            return common_grid(normalised, self.config.grid_steps)
        try:
            return shared_steps(normalised)
        except ValueError as error:
            raise UsageError(
                f"{error}: by time with grid (words, or cells per second), or by number with grid_steps, such as 32"
            ) from None


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
