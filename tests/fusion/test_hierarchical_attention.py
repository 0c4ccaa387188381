"""Hierarchical attention against both of its levels, computed by loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fusion import HierarchicalAttentionFusion, ModalitySequence
from fusion.testing import ragged_batch, without

DIMS = {"audio": 2, "text": 3, "vision": 2}
LENGTHS = {"audio": [4, 2], "text": [1, 5], "vision": [3, 0]}


def attend(scorer: nn.Module, vectors: list[Tensor]) -> tuple[list[float], Tensor]:
    """Weights `exp(u . tanh(W h + b)) / sum` and the weighted sum, one vector at a time."""
    first, _, last = scorer.score
    powers = [math.exp(float(last.weight[0] @ torch.tanh(first.weight @ h + first.bias))) for h in vectors]
    weights = [power / sum(powers) for power in powers]
    return weights, sum(weight * vector for weight, vector in zip(weights, vectors, strict=True))


def test_both_levels_against_loops() -> None:
    torch.manual_seed(0)
    head = HierarchicalAttentionFusion(DIMS, 2, hidden_dim=4, encoder="none").eval()
    batch = ragged_batch(DIMS, LENGTHS)
    output, steps = head(batch), head.step_weights(batch)
    for row in range(2):
        vectors: dict[str, Tensor] = {}
        for key, sequence in batch.items():
            length = LENGTHS[key][row]
            assert (steps[key][row, length:] == 0).all()
            if not length:
                continue
            encoder = head.encoders[key]
            read = [encoder.encoder.project(sequence.values[row, t]) for t in range(length)]
            weights, pooled = attend(encoder.pooling, read)
            torch.testing.assert_close(steps[key][row, :length], torch.tensor(weights))
            vectors[key] = torch.tanh(head.project[key][0](pooled))
        weights, fused = attend(head.over_modalities.pool, list(vectors.values()))
        expected = dict(zip(vectors, weights, strict=True))
        for key in DIMS:
            assert output.weights[key][row].item() == pytest.approx(expected.get(key, 0.0), abs=1e-6)
        torch.testing.assert_close(output.prediction[row], head.output(fused))


def test_weights_of_the_rest_keep_their_ratio_when_one_is_missing() -> None:
    torch.manual_seed(0)
    head = HierarchicalAttentionFusion(DIMS, 1, hidden_dim=8).eval()
    batch = ragged_batch(DIMS, {key: [4, 3] for key in DIMS})
    complete, blind = head(batch).weights, head(without(batch, ["vision"])).weights
    torch.testing.assert_close(blind["audio"] / blind["text"], complete["audio"] / complete["text"])


def test_finds_the_step_and_the_modality_that_tell() -> None:
    """One marked step of one modality, at a random place, holds the answer; all others hold noise."""
    torch.manual_seed(0)
    clips, length = 128, 6
    target = torch.randn(clips, 1)
    place, in_audio = torch.randint(0, length, (clips,)), torch.rand(clips) < 0.5
    inputs = {}
    for key, here in (("audio", in_audio), ("vision", ~in_audio)):
        values = torch.zeros(clips, length, 2)
        values[..., 0] = torch.randn(clips, length)
        rows = here.nonzero().squeeze(1)
        values[rows, place[rows], 0] = target[rows, 0]
        values[rows, place[rows], 1] = 1.0
        inputs[key] = ModalitySequence(values, torch.ones(clips, length, dtype=torch.bool))
    head = HierarchicalAttentionFusion({"audio": 2, "vision": 2}, 1, hidden_dim=16, encoder="none", dropout=0.0)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(200):
        optimiser.zero_grad()
        (head(inputs).prediction - target).square().mean().backward()
        optimiser.step()
    marked = head.step_weights(inputs)["audio"][in_audio].gather(1, place[in_audio].unsqueeze(1))
    assert marked.mean() > 0.7  # 1/6 if it did not look
    weights = head(inputs).weights["audio"]
    assert weights[in_audio].mean() > 0.65
    assert weights[~in_audio].mean() < 0.35
