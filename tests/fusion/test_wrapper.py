"""A wrapper stands in for its head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusion import testing
from fusion.head import FusionHead
from fusion.output import FusionOutput
from fusion.pooling import masked_mean
from fusion.sequence import ModalitySequence
from fusion.wrapper import HeadWrapper, eval_mode


class Additive(FusionHead):
    name, family, paper = "additive", "late", "Nobody, 2026"
    needs_alignment = True

    def __init__(self) -> None:
        super().__init__({"b": 2, "a": 3}, 1)
        self.maps = nn.ModuleDict({key: nn.Linear(dim, 1) for key, dim in self.input_dims.items()})

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        terms = [self.maps[key](masked_mean(sequence)) for key, sequence in inputs.items()]
        return FusionOutput(torch.stack(terms).sum(dim=0))

    def target_losses(self, output: FusionOutput, target: Tensor, index: Tensor) -> dict[str, Tensor]:
        return {"distance": (output.prediction - target).abs().sum() + index.sum()}


def test_a_wrapper_of_a_wrapper_is_still_the_head() -> None:
    head = Additive()
    wrapper = HeadWrapper(HeadWrapper(head))
    batch = testing.ragged_batch(head.input_dims, {"a": [2, 1], "b": [2, 1]})
    output = wrapper(batch)
    assert torch.equal(output.prediction, head(batch).prediction)
    assert wrapper.input_dims == {"a": 3, "b": 2}
    assert wrapper.modalities == ("a", "b")
    assert wrapper.output_dim == 1
    assert wrapper.needs_alignment
    losses = wrapper.target_losses(output, output.prediction + 2.0, torch.tensor([3, 4]))
    assert losses["distance"].item() == 2 * 2 + 7
    assert {id(p) for p in wrapper.parameters()} == {id(p) for p in head.parameters()}


def test_eval_mode_gives_each_part_its_own_mode_back() -> None:
    head = Additive().train()
    head.maps["a"].eval()
    with eval_mode(head):
        assert not any(part.training for part in head.modules())
    assert (head.training, head.maps["a"].training, head.maps["b"].training) == (True, False, True)
