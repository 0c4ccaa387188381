"""CENET: the shift against loops, and what the prediction is without one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fusion import testing
from fusion.cenet import CENET, CrossModalEnhancement
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 6, "vision": 4}
LENGTHS = {"text": [4, 1, 6, 3], "audio": [9, 7, 1, 8], "vision": [5, 0, 2, 7]}


def build(**options: object) -> CENET:
    torch.manual_seed(0)
    return CENET(DIMS, 2, **{"hidden_dim": 8, "heads": 2, **options}).eval()


def naive_found(attention: nn.Module, state: Tensor, steps: Tensor) -> Tensor:
    """What one text state `(H,)` finds in the steps `(K, H)` of one modality."""
    query = attention.query(state)
    keys, values = attention.key_value(steps).chunk(2, dim=-1)
    size = len(state) // attention.heads
    found = []
    for head in range(attention.heads):
        part = slice(head * size, (head + 1) * size)
        scores = [math.exp(float(query[part] @ key[part]) / math.sqrt(size)) for key in keys]
        found.append(sum(s / sum(scores) * value[part] for s, value in zip(scores, values, strict=True)))
    return attention.output(torch.cat(found))


def test_the_shift_equals_its_definition() -> None:
    """Over all real steps of the others, near or far; logits are divided, and nothing comes from a missing one."""
    torch.manual_seed(0)
    unit = CrossModalEnhancement(8, ("audio", "vision"), heads=2, dropout=0.0).eval()
    lengths = {"audio": [5, 3], "vision": [4, 0]}
    others = {k: s.zeroed() for k, s in testing.ragged_batch({"audio": 8, "vision": 8}, lengths, slack=2).items()}
    states = 3 * torch.randn(2, 4, 8)
    with torch.no_grad():
        actual = unit(states, others)
        for clip in range(2):
            for step in range(4):
                expected = torch.zeros(8)
                for key, sequence in others.items():
                    if length := lengths[key][clip]:
                        expected += naive_found(
                            unit.attentions[key], states[clip, step], sequence.values[clip, :length]
                        )
                assert torch.allclose(actual[clip, step], expected, atol=1e-5)


def test_zero_shift_is_the_text_model() -> None:
    """With the output maps shut, the others may say what they want, and the head equals itself on text alone."""
    head = build()
    batch = testing.ragged_batch(DIMS, LENGTHS)
    with torch.no_grad():
        text_only = head({"text": batch["text"]}).prediction
        assert not torch.allclose(head(batch).prediction, text_only, atol=1e-4)
        for attention in head.enhancement.attentions.values():
            attention.output.weight.zero_()
            attention.output.bias.zero_()
        assert torch.allclose(head(batch).prediction, text_only, atol=1e-6)


def test_the_next_layer_reads_text_plus_shift() -> None:
    head = build()
    seen: dict[str, Tensor] = {}
    head.enhancement.register_forward_hook(lambda module, args, output: seen.update({"text": args[0], "shift": output}))
    head.layers[1].register_forward_pre_hook(lambda module, args: seen.update({"read": args[0]}))
    with torch.no_grad():
        head(testing.ragged_batch(DIMS, LENGTHS))
    assert seen["shift"].abs().min(dim=0).values.max() > 1e-3
    assert torch.allclose(seen["read"], seen["text"] + seen["shift"], atol=1e-6)


def test_the_text_model_does_not_depend_on_where_the_unit_stands() -> None:
    batch = testing.ragged_batch(DIMS, LENGTHS)
    first, second = build(layers=2, enhance_after=0), build(layers=2, enhance_after=1)
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        text = {"text": batch["text"]}
        assert torch.allclose(first(text).prediction, second(text).prediction, atol=1e-6)
        assert not torch.allclose(first(batch).prediction, second(batch).prediction, atol=1e-4)


@pytest.mark.parametrize("present", [["text"], ["audio"], ["vision"], ["audio", "vision"], ["audio", "text", "vision"]])
def test_every_modality_that_is_there_is_heard(present: list[str]) -> None:
    """In particular the others where the text is missing, down to their last steps."""
    head = build()
    batch = testing.ragged_batch(DIMS, {key: [5] if key in present else [0] for key in DIMS})
    leaves = {key: torch.nan_to_num(s.values).requires_grad_() for key, s in batch.items()}
    head({key: ModalitySequence(leaves[key], batch[key].mask) for key in batch}).prediction[0, 0].backward()
    for key in present:
        assert (leaves[key].grad.abs() > 1e-7).any(dim=-1).all(), f"some step of {key} has no influence"


def test_learns_whether_audio_agrees_with_text() -> None:
    """The label is the product of two signs, which neither modality tells alone."""
    torch.manual_seed(0)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).repeat(8, 1)
    target = (signs[:, 0] * signs[:, 1]).unsqueeze(1)
    mask = torch.ones(32, 3, dtype=torch.bool)
    batch = {
        key: ModalitySequence(signs[:, column, None, None] + 0.1 * torch.randn(32, 3, 2), mask)
        for column, key in enumerate(("audio", "text"))
    }
    head = CENET({"audio": 2, "text": 2}, 1, hidden_dim=16, encoder="none", dropout=0.0)
    optimiser = torch.optim.Adam(head.parameters(), lr=5e-3)
    for _ in range(120):
        optimiser.zero_grad()
        (head(batch).prediction - target).square().mean().backward()
        optimiser.step()
    with torch.no_grad():
        assert (head(batch).prediction - target).abs().max() < 0.5


def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match=r"enhance_after must lie in \[0, 2\), so that a layer reads the shifted"):
        build(enhance_after=2)
    with pytest.raises(ValueError, match="layers must be at least 1, not 0"):
        build(layers=0)
