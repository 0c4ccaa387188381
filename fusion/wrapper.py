"""`HeadWrapper`: the base of modules that stand around a head and are used in its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from fusion.head import FusionHead
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence


class HeadWrapper(nn.Module):
    """A module around a head that takes what the head takes and returns what the head returns.

    Anything that trains or scores a head works on a wrapper, too: it has the head's sizes, and passes its
    objectives on.

    Args:
        head: what is wrapped: a head, or another wrapper.
    """

    def __init__(self, head: FusionHead | HeadWrapper) -> None:
        super().__init__()
        self.head = head

    @property
    def input_dims(self) -> dict[str, int]:
        """Features per modality of the wrapped head."""
        return self.head.input_dims

    @property
    def output_dim(self) -> int:
        """Number of outputs of the wrapped head."""
        return self.head.output_dim

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of the wrapped head, sorted."""
        return self.head.modalities

    @property
    def needs_alignment(self) -> bool:
        """Whether the wrapped head needs the same steps in every modality."""
        return self.head.needs_alignment

    def forward(self, inputs: Mapping[str, ModalitySequence]) -> FusionOutput:
        """The wrapped head's output; subclasses change what goes in or what comes out."""
        output: FusionOutput = self.head(inputs)
        return output

    def target_losses(self, output: FusionOutput, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The wrapped head's objectives that need the label (see `FusionHead.target_losses`)."""
        return self.head.target_losses(output, target, index)


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Every submodule in eval mode for a while, then back to what each of them was.

    Args:
        module: a head, a wrapper, or any other module.
    """
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training
