"""MMIM: its bound against mutual information that is known in closed form, its entropy by hand, its masks."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fusion import testing
from fusion.mmim import MMIM, ConditionalGaussian, barber_agakov_bound, gaussian_entropy
from fusion.objectives import contrastive_predictive_coding

DIMS = {"audio": 3, "text": 4, "vision": 2}
LENGTHS = {"audio": [5, 4, 6, 3, 2], "text": [2, 3, 1, 4, 1], "vision": [3, 0, 2, 2, 3]}
UNIT = 0.5 * math.log(2 * math.pi * math.e)  # entropy of a standard normal, in nats


def correlated(count: int, dim: int, rho: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Standard normals whose matching features correlate by `rho`: `I = -dim / 2 * log(1 - rho^2)`."""
    x, noise = torch.randn(2, count, dim, generator=torch.Generator().manual_seed(seed))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def information(dim: int, rho: float) -> float:
    return -dim / 2 * math.log(1 - rho**2)


def everyone(values: Tensor) -> Tensor:
    return torch.ones(len(values), dtype=torch.bool)


class TestEntropy:
    @pytest.mark.parametrize("scale", [1.0, 3.0])
    def test_one_feature(self, scale: float) -> None:
        values = scale * torch.tensor([[1.0], [-1.0], [1.0], [-1.0], [99.0]])
        present = torch.tensor([True, True, True, True, False])
        assert gaussian_entropy(values, present).item() == pytest.approx(UNIT + math.log(scale), abs=1e-4)

    def test_correlation_is_shrunk_by_the_number_of_clips(self) -> None:
        # Covariance all ones; four clips and two features keep 4 / 6 of the correlation: 1 - (2 / 3)^2 = 5 / 9.
        values = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]])
        assert gaussian_entropy(values, everyone(values)).item() == pytest.approx(
            2 * UNIT + 0.5 * math.log(5 / 9), abs=1e-4
        )

    def test_finite_with_fewer_clips_than_features(self) -> None:
        values = torch.randn(3, 20, generator=torch.Generator().manual_seed(0)).requires_grad_()
        gaussian_entropy(values, everyone(values)).backward()
        assert torch.isfinite(values.grad).all()


class TestBound:
    def test_density_is_a_normals(self) -> None:
        torch.manual_seed(0)
        q, x, y = ConditionalGaussian(2, 3, 5), torch.randn(4, 2), torch.randn(4, 3)
        deviation = (6 * (q.log_variance(x) / 6).tanh() / 2).exp()
        expected = torch.distributions.Normal(q.mean(x), deviation).log_prob(y).sum(dim=1)
        torch.testing.assert_close(q(x, y), expected)

    @settings(deadline=None, max_examples=20)
    @given(seed=st.integers(0, 1000), rho=st.floats(0, 0.95))
    def test_never_above_the_mutual_information(self, seed: int, rho: float) -> None:
        """Whatever `q` is; up to the noise of an estimate from 2000 clips."""
        torch.manual_seed(seed)
        x, y = correlated(2000, 2, rho, seed)
        bound = barber_agakov_bound(ConditionalGaussian(2, 2, 4), x, y, x[:, 0] > 9, everyone(x))
        assert bound.item() < information(2, rho) + 0.1

    def test_tight_at_the_true_conditional(self) -> None:
        rho = 0.8
        x, y = correlated(20_000, 2, rho)
        q = _linear_conditional(rho)
        bound = barber_agakov_bound(q, x, y, torch.rand(len(x)) > 0.5, everyone(x))
        assert bound.item() == pytest.approx(information(2, rho), abs=0.03)

    def test_close_after_training(self) -> None:
        torch.manual_seed(0)
        rho = 0.8
        x, y = correlated(512, 2, rho)
        q, nobody = ConditionalGaussian(2, 2, 8), torch.zeros(512, dtype=torch.bool)
        optimiser = torch.optim.Adam(q.parameters(), lr=0.02)
        for _ in range(200):
            optimiser.zero_grad()
            (-barber_agakov_bound(q, x, y, nobody, everyone(x))).backward()
            optimiser.step()
        fresh_x, fresh_y = correlated(5000, 2, rho, seed=1)
        bound = barber_agakov_bound(q, fresh_x, fresh_y, fresh_x[:, 0] > 9, everyone(fresh_x)).item()
        assert information(2, rho) - 0.15 < bound < information(2, rho) + 0.03

    def test_groups_weigh_by_size_and_single_clips_are_left_out(self) -> None:
        # Group one: four clips with deviation 1; group two: two clips with deviation 3, far away.
        y = torch.tensor([[1.0], [-1.0], [1.0], [-1.0], [103.0], [97.0]])
        group = torch.tensor([True, True, True, True, False, False])
        q, x = ConditionalGaussian(1, 1, 2), torch.zeros(6, 1)
        entropy = (4 * UNIT + 2 * (UNIT + math.log(3))) / 6
        expected = entropy + q(x, y).mean().item()
        assert barber_agakov_bound(q, x, y, group, everyone(x)).item() == pytest.approx(expected, rel=1e-5)
        # With one clip left in group two, the bound is that of group one alone.
        alone = barber_agakov_bound(q, x[:5], y[:5], group[:5], everyone(x[:5])).item()
        assert alone == pytest.approx(UNIT + q(x[:4], y[:4]).mean().item(), rel=1e-4)
        assert barber_agakov_bound(q, x[:1], y[:1], group[:1], everyone(x[:1])).item() == 0.0


def _linear_conditional(rho: float) -> ConditionalGaussian:
    """`N(rho x, 1 - rho^2)`, exactly, for two features: a ReLU pair per feature makes the identity."""
    q = ConditionalGaussian(2, 2, 4)
    with torch.no_grad():
        for parameter in q.parameters():
            parameter.zero_()
        q.mean[0].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        q.mean[3].weight.copy_(rho * torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]))
        q.log_variance[3].bias.fill_(6 * math.atanh(math.log(1 - rho**2) / 6))
    return q


def build(**options: object) -> MMIM:
    torch.manual_seed(0)
    return MMIM(DIMS, 2, hidden_dim=6, dropout=0.0, **options).train()  # type: ignore[arg-type]


def batch() -> testing.Batch:
    return {key: s.zeroed() for key, s in testing.ragged_batch(DIMS, LENGTHS).items()}


TARGET = torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, 2.0], [0.0, -2.0], [0.0, float("nan")]])


class TestHead:
    def test_losses_are_the_sums_over_modalities_and_pairs(self) -> None:
        head = build(label_column=1, fusion_weight=0.5, modality_weight=2.0)
        output = head(batch())
        named = output.representations
        predicted = {key: head.predictors[m](named["fusion"]) for m, key in enumerate(DIMS)}
        seen = {key: [0, 2, 3, 4] if key == "vision" else [0, 1, 2, 3, 4] for key in DIMS}
        terms = [contrastive_predictive_coding(predicted[k][seen[k]], named[k][seen[k]]) for k in DIMS]
        assert output.losses["fusion_information"].item() == pytest.approx(
            0.5 * torch.stack(terms).sum().item(), rel=1e-5
        )
        total = 0.0
        for q, key, rows in ((0, "audio", [0, 1, 2, 3]), (1, "vision", [0, 2, 3])):  # clip 4 is unlabelled
            total += barber_agakov_bound(
                head.conditionals[q],
                named["text"][rows],
                named[key][rows],
                TARGET[rows, 1] > 0,
                torch.ones(len(rows)).bool(),
            ).item()
        losses = head.target_losses(output, TARGET, torch.arange(5))
        assert losses["modality_information"].item() == pytest.approx(-2.0 * total / 6, rel=1e-4)

    @pytest.mark.parametrize(("given_", "used"), [(None, "text"), ("vision", "vision")])
    def test_primary(self, given_: str | None, used: str) -> None:
        assert build(primary=given_).primary == used
        assert MMIM({"ecg": 2, "eeg": 3}, 1).primary == "ecg"

    def test_unlabelled_batches_have_no_bound(self) -> None:
        head = build()
        losses = head.target_losses(head(batch()), torch.full((5, 2), float("nan")), torch.arange(5))
        assert losses["modality_information"].item() == 0.0
        losses["modality_information"].backward()
        assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)

    def test_masked_positions_get_no_gradient_in_training(self) -> None:
        testing.check_no_gradient_to_masked(build(), batch())

    def test_one_modality_has_no_pair(self) -> None:
        head = MMIM({"audio": 3}, 1).train()
        output = head(testing.ragged_batch({"audio": 3}, {"audio": [2, 3]}))
        assert head.target_losses(output, torch.zeros(2, 1), torch.arange(2)) == {}
        assert set(output.losses) == {"fusion_information"}

    def test_bad_arguments(self) -> None:
        with pytest.raises(ValueError, match="primary must be one of audio, text, vision, not 'face'"):
            MMIM(DIMS, 1, primary="face")
        with pytest.raises(ValueError, match=r"label_column must be an output in 0\.\.0, not 1"):
            MMIM(DIMS, 1, label_column=1)
