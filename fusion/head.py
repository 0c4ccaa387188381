"""`FusionHead`: the base class that holds the contract of every head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence


class FusionHead(nn.Module, ABC):
    """Modality sequences in, one prediction per clip out.

    Subclasses set the class variables, call `super().__init__` and implement `fuse`. `forward` checks the input,
    fills in modalities that were not given, and zeroes masked positions, so that `fuse` always sees every
    modality of `input_dims`, in sorted order, without anything to leak from padding.

    Args:
        input_dims: number of features per modality; any names, at least `minimum_modalities` of them.
        output_dim: number of outputs `O`.

    Raises:
        ValueError: too few modalities, a name that torch cannot register, or a size below 1.
    """

    name: ClassVar[str]
    """Short name, used by the command line."""
    family: ClassVar[str]
    """`"early"`, `"late"`, `"hierarchical"`, `"tensor"`, `"attention"`, `"memory"` or `"representation"`."""
    paper: ClassVar[str]
    """Authors, title, venue and year of the source."""
    needs_alignment: bool = False
    """True when the method needs the same steps in every modality (`T` equal, step k of all at one time)."""
    own_losses: ClassVar[bool] = False
    """True when the head asks for losses of its own, which may relate the clips of a batch to each other. Without, a
    batch may be computed in parts whose gradients add up."""
    minimum_modalities: ClassVar[int] = 1

    def __init__(self, input_dims: Mapping[str, int], output_dim: int) -> None:
        super().__init__()
        if len(input_dims) < self.minimum_modalities:
            raise ValueError(
                f"{type(self).__name__} fuses at least {self.minimum_modalities} modalities, "
                f"but input_dims has {sorted(input_dims)}"
            )
        dotted = [key for key in input_dims if "." in key or not key]
        if dotted:
            raise ValueError(
                f"a modality's name may not be empty or hold a dot, as {dotted} do: torch cannot register it"
            )
        for key, dim in (*input_dims.items(), ("output_dim", output_dim)):
            if dim < 1:
                raise ValueError(f"sizes must be positive, but {key} is {dim}")
        self.input_dims = {key: int(input_dims[key]) for key in sorted(input_dims)}
        self.output_dim = output_dim

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities the head was built for, sorted."""
        return tuple(self.input_dims)

    def forward(self, inputs: Mapping[str, ModalitySequence]) -> FusionOutput:
        """Predict a batch.

        Args:
            inputs: one sequence per modality, with one `B`. A modality that is left out is missing in all clips.

        Raises:
            ValueError: an unknown modality, no modality, unequal batch sizes, a wrong feature size, or, where the
                head needs alignment, unequal lengths.
        """
        self._check(inputs)
        return self.fuse({key: self._prepare(key, inputs) for key in self.modalities})

    @abstractmethod
    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Predict from checked sequences: every modality there, masked positions zero."""

    def target_losses(self, output: FusionOutput, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Objectives that need the label; called by the training loop once per step, in training mode only.

        Args:
            output: what `forward` returned for this batch.
            target: `(B, O)` in the layout of `prediction`: the score for a regression output, one-hot for
                classes, NaN where a clip has no label.
            index: `(B,)` int64, the clips' positions in the training split (for heads that keep state per clip).

        Returns:
            Named scalars to be added to the loss, already weighted; none by default.
        """
        del output, target, index
        return {}

    def _check(self, inputs: Mapping[str, ModalitySequence]) -> None:
        unknown = sorted(set(inputs) - set(self.input_dims))
        if unknown or not inputs:
            given = ", ".join(sorted(inputs)) or "nothing"
            raise ValueError(
                f"this head was built for {', '.join(self.modalities)} and was given {given}: "
                "pass a mapping from those names to ModalitySequence"
            )
        sizes = {key: sequence.values.shape[0] for key, sequence in inputs.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"every modality needs the same number of clips, not {sizes}")
        for key, sequence in inputs.items():
            if sequence.values.shape[2] != self.input_dims[key]:
                raise ValueError(
                    f"{key} has {sequence.values.shape[2]} features per step, "
                    f"but the head was built for {self.input_dims[key]}"
                )
        steps = {key: sequence.values.shape[1] for key, sequence in inputs.items()}
        if self.needs_alignment and len(set(steps.values())) > 1:
            raise ValueError(
                f"{type(self).__name__} needs aligned modalities, but their steps are {steps}: "
                "put them on one grid first, with fusion.common_grid"
            )

    def _prepare(self, key: str, inputs: Mapping[str, ModalitySequence]) -> ModalitySequence:
        if key in inputs:
            return inputs[key].zeroed()
        other = next(iter(inputs.values()))
        steps = other.values.shape[1] if self.needs_alignment else 1
        values = other.values.new_zeros(other.values.shape[0], steps, self.input_dims[key])
        return ModalitySequence(values, torch.zeros_like(values[..., 0], dtype=torch.bool))


def stack_present(inputs: Mapping[str, ModalitySequence]) -> Tensor:
    """`(B, M)` bool: which clips have which modality, columns in the order of `inputs`."""
    return torch.stack([sequence.present for sequence in inputs.values()], dim=1)
