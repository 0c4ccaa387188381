"""Single-stream fusion: its tokens by hand, and what one symmetric stream must be blind to."""

from __future__ import annotations

import math

import pytest
import torch

from fusion import ModalitySequence, SingleStreamFusion
from fusion.testing import ragged_batch, without

DIMS = {"audio": 2, "text": 3, "vision": 2}


def test_the_tokens_one_by_one() -> None:
    torch.manual_seed(0)
    head = SingleStreamFusion({"audio": 1, "text": 1}, 1, hidden_dim=4)
    inputs = {
        "audio": ModalitySequence.pad([torch.tensor([[5.0], [6.0]])]),
        "text": ModalitySequence.pad([torch.tensor([[7.0], [8.0], [9.0]])]),
    }
    tokens = head.tokens(inputs)
    expected = [head.class_token[0]]
    for key, values in (("audio", (5.0, 6.0)), ("text", (7.0, 8.0, 9.0))):
        for position, value in enumerate(values):
            # Two frequencies for four features: 1 and 10000^(-1/2).
            angles = [position, position * 0.01]
            code = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
            expected.append(head.embed[key].weight[:, 0] * value + head.embed[key].bias + head.types[key] + code)
    torch.testing.assert_close(tokens.values[0], torch.stack(expected))
    assert tokens.mask.all()


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_no_modality_has_more_tokens_than_allowed(steps: int) -> None:
    head = SingleStreamFusion(DIMS, 1, max_steps=steps)
    batch = ragged_batch(DIMS, {"audio": [300, 2], "text": [5, 1], "vision": [40, 0]})
    expected = [1 + min(steps, 300) + min(steps, 5) + min(steps, 40), 1 + min(steps, 2) + 1]
    assert head.tokens(batch).lengths.tolist() == expected


def test_a_long_modality_is_read_as_the_means_of_its_cells() -> None:
    torch.manual_seed(0)
    head = SingleStreamFusion({"audio": 2}, 1, hidden_dim=8, max_steps=3).eval()
    long = torch.randn(6, 2)
    cells = torch.stack([long[0:2].mean(dim=0), long[2:4].mean(dim=0), long[4:6].mean(dim=0)])
    found, expected = (head({"audio": ModalitySequence.pad([x])}).prediction for x in (long, cells))
    torch.testing.assert_close(found, expected)


def test_missing_means_no_tokens() -> None:
    """The head without vision in a clip is the head that was never built for vision."""
    torch.manual_seed(0)
    whole = SingleStreamFusion(DIMS, 2, hidden_dim=8).eval()
    part = SingleStreamFusion({key: DIMS[key] for key in ("audio", "text")}, 2, hidden_dim=8).eval()
    shared = {key: value for key, value in whole.state_dict().items() if "vision" not in key}
    part.load_state_dict(shared)
    batch = ragged_batch(DIMS, {"audio": [4, 2], "text": [3, 6], "vision": [5, 1]})
    expected = part({key: batch[key] for key in ("audio", "text")}).prediction
    torch.testing.assert_close(whole(without(batch, ["vision"])).prediction, expected)


def test_order_of_the_modalities_in_the_stream_is_irrelevant() -> None:
    """Attention is symmetric and positions restart in each modality, so other names, in another order, do nothing."""
    torch.manual_seed(0)
    head = SingleStreamFusion({"a": 2, "b": 3}, 1, hidden_dim=8).eval()
    swapped = SingleStreamFusion({"y": 3, "z": 2}, 1, hidden_dim=8).eval()
    names = {"a": "z", "b": "y"}
    swapped.load_state_dict(
        {".".join(names.get(part, part) for part in key.split(".")): value for key, value in head.state_dict().items()}
    )
    batch = ragged_batch({"a": 2, "b": 3}, {"a": [4, 2], "b": [3, 6]})
    found = swapped({names[key]: sequence for key, sequence in batch.items()}).prediction
    torch.testing.assert_close(found, head(batch).prediction)


def test_order_of_the_steps_is_not() -> None:
    torch.manual_seed(0)
    head = SingleStreamFusion({"text": 3}, 1, hidden_dim=8).eval()
    steps = torch.randn(5, 3)
    forward, backward = (head({"text": ModalitySequence.pad([x])}).prediction for x in (steps, steps.flip(0)))
    assert (forward - backward).abs().item() > 1e-4


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match="max_steps and layers must be at least 1, not 0 and 2"):
        SingleStreamFusion(DIMS, 1, max_steps=0)
    with pytest.raises(ValueError, match="heads must divide query_dim"):
        SingleStreamFusion(DIMS, 1, hidden_dim=10)
