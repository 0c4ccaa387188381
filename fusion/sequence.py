"""`ModalitySequence`: one modality of a batch, padded, with the mask that says which steps are real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ModalitySequence:
    """A batch of ragged sequences of one modality.

    Shape legend of the package: `B` clips, `T` steps, `D` features, `H` hidden size, `M` modalities,
    `O` outputs.

    Attributes:
        values: `(B, T, D)` float. What stands where `mask` is False has no meaning and no influence.
        mask: `(B, T)` bool, True where the step is real. Padding usually stands at the end; a False between
            two True is a gap. A row without any True is a clip in which the modality is missing.

    Raises:
        ValueError: the shapes disagree or the mask is not boolean.
    """

    values: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        # torch's tree utilities rebuild the class around things that are not tensors.
        if not (isinstance(self.values, Tensor) and isinstance(self.mask, Tensor)):
            return
        if self.values.ndim != 3 or self.mask.ndim != 2 or self.values.shape[:2] != self.mask.shape:
            raise ValueError(
                "a modality sequence needs values (B, T, D) and mask (B, T), not "
                f"{tuple(self.values.shape)} and {tuple(self.mask.shape)}"
            )
        if self.mask.dtype != torch.bool:
            raise ValueError(f"mask must be boolean (True where real), not {self.mask.dtype}: use mask.bool()")

    @property
    def present(self) -> Tensor:
        """`(B,)` bool: which clips have at least one real step."""
        return self.mask.any(dim=1)

    @property
    def lengths(self) -> Tensor:
        """`(B,)` int64: number of real steps of each clip."""
        return self.mask.sum(dim=1)

    def zeroed(self) -> ModalitySequence:
        """The same sequence with zeros at masked positions, so that nothing (NaN included) leaks from there."""
        return ModalitySequence(self.values.masked_fill(~self.mask.unsqueeze(-1), 0.0), self.mask)

    def compacted(self) -> ModalitySequence:
        """The same steps with the real ones moved to the front, in order; gaps are closed."""
        if is_readable(self.mask) and not (self.mask[:, 1:] & ~self.mask[:, :-1]).any():
            return self  # no gap to close, as in every batch that was padded at the end
        order = torch.argsort((~self.mask).to(torch.int8), dim=1, stable=True)  # (B, T)
        values = self.values.gather(1, order.unsqueeze(-1).expand_as(self.values))
        return ModalitySequence(values, self.mask.gather(1, order))

    def to(self, device: torch.device | str) -> ModalitySequence:
        """The same sequence on another device."""
        return ModalitySequence(self.values.to(device), self.mask.to(device))

    @classmethod
    def pad(cls, sequences: Sequence[Tensor], steps: int | None = None) -> ModalitySequence:
        """Pad `(T_i, D)` tensors at the end; an empty one becomes a missing row.

        Args:
            sequences: one tensor per clip, all with the same `D`.
            steps: pad to this many steps instead of the longest (at least 1).

        Raises:
            ValueError: no sequence given, or one is longer than `steps`.

        Example:
            >>> ModalitySequence.pad([torch.ones(2, 3), torch.ones(1, 3)]).mask
            tensor([[ True,  True],
                    [ True, False]])
        """
        if not sequences:
            raise ValueError("nothing to pad: give at least one (T, D) tensor")
        longest = max(1, *(len(s) for s in sequences))
        steps = longest if steps is None else steps
        if longest > steps:
            raise ValueError(f"cannot pad to {steps} steps: the longest sequence has {longest}")
        first = sequences[0]
        values = first.new_zeros(len(sequences), steps, first.shape[-1])
        mask = torch.zeros(len(sequences), steps, dtype=torch.bool, device=first.device)
        for row, sequence in enumerate(sequences):
            values[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = True
        return cls(values, mask)


def is_readable(tensor: Tensor) -> bool:
    """Whether a shortcut may depend on the values of a tensor.

    It may not where the values are not known yet (`torch.compile`, `torch.export`), where they stand for several
    tensors (`torch.vmap`), and where reading them would wait for a device.
    """
    if tensor.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


torch.export.register_dataclass(ModalitySequence, serialized_type_name="fusion.ModalitySequence")
