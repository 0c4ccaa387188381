"""Product of experts: the closed form against the product of densities, and what precision means."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import softplus

from fusion import ModalitySequence, ProductOfExpertsFusion
from fusion.product_of_experts import gaussian_product
from fusion.testing import ragged_batch, without

DIMS = {"audio": 2, "text": 3, "vision": 2}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    experts=st.lists(st.tuples(st.floats(-3, 3), st.floats(0.2, 5)), min_size=1, max_size=4),
    more=st.tuples(st.floats(-3, 3), st.floats(0.2, 5)),
)
def test_closed_form_is_the_product_of_the_densities(
    experts: list[tuple[float, float]], more: tuple[float, float]
) -> None:
    """Multiply the densities on a fine grid, normalise, and take mean and inverse variance; `more` is masked out."""
    grid = torch.linspace(-30, 30, 60001, dtype=torch.float64)
    log_density = sum(-0.5 * precision * (grid - mean) ** 2 for mean, precision in experts)
    density = torch.softmax(log_density, dim=0)
    mean = (density * grid).sum()
    variance = (density * (grid - mean) ** 2).sum()
    both = torch.tensor([*experts, more], dtype=torch.float64).unsqueeze(0)  # (1, N + 1, 2)
    present = torch.tensor([[True] * len(experts) + [False]])
    found = gaussian_product(both[..., :1], both[..., 1:], present)
    assert found[0].item() == pytest.approx(mean.item(), abs=1e-6)
    assert found[1].item() == pytest.approx(1 / variance.item(), rel=1e-5)


def test_prediction_and_weights_against_loops() -> None:
    torch.manual_seed(0)
    head = ProductOfExpertsFusion(DIMS, 2, hidden_dim=8).eval()
    head.prior_mean.data = torch.tensor([0.7, -0.4])
    batch = ragged_batch(DIMS, {"audio": [4, 2], "text": [1, 5], "vision": [3, 0]})
    output = head(batch)
    for row in range(2):
        there = [key for key in head.modalities if batch[key].present[row]]
        shares = dict.fromkeys(head.modalities, 0.0)
        for column in range(2):
            prior = softplus(head.prior_precision[column]).item() + 1e-4
            top, bottom = prior * head.prior_mean[column].item(), prior
            precision = {}
            for key in there:
                vector = output.representations[key][row]
                precision[key] = softplus(head.precision[key](vector)[column]).item() + 1e-4
                top += precision[key] * head.mean[key](vector)[column].item()
                bottom += precision[key]
            assert output.prediction[row, column].item() == pytest.approx(top / bottom, abs=1e-5)
            for key in there:
                shares[key] += precision[key] / sum(precision.values()) / 2
        for key in head.modalities:
            assert output.weights[key][row].item() == pytest.approx(shares[key], abs=1e-5)


def test_a_certain_expert_decides_and_an_unsure_one_is_ignored() -> None:
    torch.manual_seed(0)
    head = ProductOfExpertsFusion(DIMS, 1, hidden_dim=8).eval()
    for key, bias in (("audio", -50.0), ("text", 1e6), ("vision", -50.0)):
        head.precision[key].bias.data.fill_(bias)
    batch = ragged_batch(DIMS, {key: [4] for key in DIMS})
    sure = head(batch)
    torch.testing.assert_close(sure.prediction, sure.unimodal["text"])
    assert sure.weights["text"].item() == pytest.approx(1.0)
    # Without the certain one, the unsure ones leave the answer to the prior.
    head.prior_mean.data.fill_(2.5)
    left = head(without(batch, ["text"])).prediction.item()
    assert left == pytest.approx(2.5, abs=0.02)


def test_learns_which_clip_to_believe() -> None:
    """Each modality is loud where it is right; precision must follow the loudness, clip by clip."""
    torch.manual_seed(0)
    target = torch.randn(200, 1)
    reliable = torch.rand(200, 1) < 0.5
    inputs = {}
    for key, good in (("audio", reliable), ("text", ~reliable)):
        said = torch.where(good, target, torch.randn(200, 1))
        values = torch.cat([said, good.float()], dim=1).unsqueeze(1)
        inputs[key] = ModalitySequence(values, torch.ones(200, 1, dtype=torch.bool))
    head = ProductOfExpertsFusion({"audio": 2, "text": 2}, 1, hidden_dim=8, encoder="none", pooling="mean", dropout=0.0)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.03)
    for _ in range(400):
        optimiser.zero_grad()
        (head(inputs).prediction - target).square().mean().backward()
        optimiser.step()
    weight = head(inputs).weights["audio"]
    assert weight[reliable.squeeze()].mean() > 0.85
    assert weight[~reliable.squeeze()].mean() < 0.15
