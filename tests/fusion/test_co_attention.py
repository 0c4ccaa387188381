from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fusion import testing
from fusion.co_attention import CoAttentionFusion
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 5, "vision": 4}


def naive_weights(head: CoAttentionFusion, clip: dict[str, Tensor], key: str) -> Tensor:
    """Attention of one modality's steps in one clip, step by step from section 3.3; `(T,)`."""
    scores = []
    for step in clip[key]:
        guidance = torch.zeros(len(step))
        others = [name for name in clip if name != key]
        for other in others:
            first, second = sorted((key, other))
            weight = head.affinities[f"{first}<->{second}"].weight
            for theirs in clip[other]:
                a, b = (step, theirs) if key == first else (theirs, step)
                affinity = torch.tanh((weight @ a) @ b)
                guidance += affinity * (head.maps[other].weight @ theirs) / len(clip[other]) / len(others)
        hidden = torch.tanh(head.maps[key].weight @ step + guidance)
        scores.append(head.scores[key].weight[0] @ hidden)
    powers = torch.stack(scores).exp()
    return powers / powers.sum()


def test_equals_a_naive_co_attention() -> None:
    torch.manual_seed(0)
    head = CoAttentionFusion(DIMS, 2, hidden_dim=6).eval()
    batch = testing.ragged_batch(DIMS, {"audio": [6, 2, 3], "text": [3, 4, 0], "vision": [2, 0, 0]})
    with torch.no_grad():
        output = head(batch)
        tokens = head.tokens({key: sequence.zeroed() for key, sequence in batch.items()})
        weights = head.step_weights(tokens)
        for row in range(3):
            clip = {k: s.values[row][s.mask[row]] for k, s in tokens.items() if s.mask[row].any()}
            total = torch.zeros(6)
            for key, steps in clip.items():
                expected = naive_weights(head, clip, key)
                torch.testing.assert_close(weights[key][row, : len(steps)], expected, atol=1e-5, rtol=1e-5)
                total += (expected.unsqueeze(1) * steps).sum(dim=0) * len(DIMS) / len(clip)
            prediction = head.output(torch.tanh(head.joint(total)))
            torch.testing.assert_close(output.prediction[row], prediction, atol=1e-5, rtol=1e-5)


def test_one_affinity_matrix_serves_both_directions() -> None:
    """A gradient from either modality's attention reaches the pair's matrix, and no other pair's."""
    torch.manual_seed(0)
    head = CoAttentionFusion(DIMS, 1, hidden_dim=6).eval()
    assert set(head.affinities) == {"audio<->text", "audio<->vision", "text<->vision"}
    batch = testing.ragged_batch(DIMS, {"audio": [4], "text": [3], "vision": [5]})
    for key in ("audio", "text"):
        head.zero_grad()
        weights = head.step_weights(head.tokens({k: s.zeroed() for k, s in batch.items()}))[key]
        weights.square().sum().backward()
        for pair, affinity in head.affinities.items():
            reached = affinity.weight.grad is not None and bool((affinity.weight.grad != 0).any())
            assert reached == (key in pair.split("<->"))


def test_without_affinity_it_is_attention_pooling() -> None:
    torch.manual_seed(0)
    head = CoAttentionFusion(DIMS, 1, hidden_dim=6).eval()
    for affinity in head.affinities.values():
        torch.nn.init.zeros_(affinity.weight)
    batch = testing.ragged_batch(DIMS, {"audio": [4], "text": [3], "vision": [5]})
    with torch.no_grad():
        tokens = head.tokens({k: s.zeroed() for k, s in batch.items()})
        weights = head.step_weights(tokens)
        for key, sequence in tokens.items():
            scores = head.scores[key](torch.tanh(head.maps[key](sequence.values))).squeeze(-1)
            torch.testing.assert_close(weights[key], torch.softmax(scores, dim=1))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_trains_with_any_number_of_modalities(count: int) -> None:
    dims = dict(list({"a": 2, "b": 3, "c": 2, "d": 4}.items())[:count])
    torch.manual_seed(0)
    batch = testing.ragged_batch(dims, {key: [4, 2, 3] for key in dims})
    testing.check_trains(CoAttentionFusion(dims, 1, hidden_dim=8), batch)


def test_learns_to_look_where_the_other_points(fit: Callable[..., float]) -> None:
    """Text names one of two audio steps; the label is what that step says: attention must follow the other."""
    generator = torch.Generator().manual_seed(0)
    asked = torch.randint(0, 2, (64,), generator=generator)
    said = torch.randint(0, 2, (64, 2), generator=generator).float() * 2 - 1
    audio = torch.zeros(64, 2, 3)
    audio[:, 0, 0] = audio[:, 1, 1] = 1.0  # which step it is
    audio[:, :, 2] = said
    text = torch.nn.functional.one_hot(asked, 2).float().unsqueeze(1)
    batch = {
        key: ModalitySequence(values, torch.ones(values.shape[:2], dtype=torch.bool))
        for key, values in (("audio", audio), ("text", text))
    }
    target = said.gather(1, asked.unsqueeze(1))
    torch.manual_seed(0)
    head = CoAttentionFusion({"audio": 3, "text": 2}, 1, hidden_dim=16, encoder="none", dropout=0.0)
    assert fit(head, (batch, target), rate=1e-2) < 0.1
    weights = head.step_weights(head.tokens(batch))["audio"]
    assert weights.gather(1, asked.unsqueeze(1)).mean() > 0.6
