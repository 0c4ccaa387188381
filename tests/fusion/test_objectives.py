"""Objectives against numbers worked out by hand, naive loops, and what a mask must mean."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fusion.objectives import (
    MatchingLoss,
    PseudoLabelGenerator,
    central_moment_discrepancy,
    clip_mean,
    contrastive_predictive_coding,
    difference_loss,
    info_nce,
    maximum_mean_discrepancy,
    reconstruction_loss,
)

NAN = float("nan")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def matching(dim: int = 3) -> MatchingLoss:
    torch.manual_seed(0)
    return MatchingLoss(dim, 5, temperature=0.5)


PAIRED: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "central_moment_discrepancy": lambda a, b, p: central_moment_discrepancy(a, b, present=p),
    "difference_loss": lambda a, b, p: difference_loss(a, b, present=p),
    "info_nce": lambda a, b, p: info_nce(a, b, 0.5, present=p),
    "contrastive_predictive_coding": lambda a, b, p: contrastive_predictive_coding(a, b, present=p),
    "maximum_mean_discrepancy": lambda a, b, p: maximum_mean_discrepancy(a + b, present=p),
    "reconstruction_loss": lambda a, b, p: reconstruction_loss(a, b, p),
    "matching": lambda a, b, p: matching()(a, b, p),
}


@pytest.mark.parametrize("name", PAIRED)
class TestMasks:
    def test_masked_clips_are_as_good_as_not_there(self, name: str) -> None:
        a, b = normal(6, 3), normal(6, 3, seed=1)
        present = torch.tensor([True, False, True, True, False, True])
        expected = PAIRED[name](a[present], b[present], None)
        a, b = (x.masked_fill(~present.unsqueeze(1), NAN).requires_grad_() for x in (a, b))
        actual = PAIRED[name](a, b, present)
        torch.testing.assert_close(actual, expected)
        actual.backward()
        for x in (a, b):
            assert (x.grad[~present] == 0).all()
            assert torch.isfinite(x.grad).all()
            assert (x.grad[present] != 0).any()

    @pytest.mark.parametrize("valid", [0, 1])
    def test_finite_with_hardly_any_clip(self, name: str, valid: int) -> None:
        a, b = normal(3, 3).requires_grad_(), normal(3, 3, seed=1).requires_grad_()
        loss = PAIRED[name](a, b, torch.arange(3) < valid)
        assert torch.isfinite(loss)
        if valid == 0:
            assert loss == 0
        loss.backward()
        assert torch.isfinite(a.grad).all()
        assert torch.isfinite(b.grad).all()

    def test_order_of_clips_does_not_matter(self, name: str) -> None:
        a, b = normal(6, 3), normal(6, 3, seed=1)
        order = torch.tensor([3, 1, 5, 0, 2, 4])
        torch.testing.assert_close(PAIRED[name](a[order], b[order], None), PAIRED[name](a, b, None))


def test_clip_mean_of_vectors() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]])
    assert clip_mean(values, torch.tensor([True, True, False])).tolist() == [2.0, 4.0]
    assert clip_mean(values, torch.zeros(3, dtype=torch.bool)).tolist() == [0.0, 0.0]


class TestCentralMomentDiscrepancy:
    # a is 0 or 1 with equal odds: mean 1/2, central moments 1/4, 0, 1/16, 0; b is always 0.
    a, b = torch.tensor([[0.0], [1.0]]), torch.zeros(2, 1)

    @pytest.mark.parametrize(("moments", "expected"), [(1, 0.5), (2, 0.75), (3, 0.75), (4, 0.8125), (5, 0.8125)])
    def test_worked_out(self, moments: int, expected: float) -> None:
        assert central_moment_discrepancy(self.a, self.b, moments).item() == pytest.approx(expected)

    def test_span_scales_each_order(self) -> None:
        expected = 0.5 / 2 + 0.25 / 4 + 0.0625 / 16
        assert central_moment_discrepancy(self.a, self.b, span=2.0).item() == pytest.approx(expected)

    def test_norm_is_over_features(self) -> None:
        a, b = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)
        assert central_moment_discrepancy(a, b).item() == pytest.approx(5.0)

    @settings(deadline=None, max_examples=30)
    @given(seed=st.integers(0, 1000), shift=st.floats(-3, 3))
    def test_a_shift_moves_the_mean_only(self, seed: int, shift: float) -> None:
        a = normal(7, 4, seed=seed).double()
        discrepancy = central_moment_discrepancy(a, a + shift)
        assert discrepancy.item() == pytest.approx(abs(shift) * 2, abs=1e-6)  # sqrt(4 features) * shift

    def test_no_order_below_one(self) -> None:
        with pytest.raises(ValueError, match="moments must be 1 or more"):
            central_moment_discrepancy(self.a, self.b, 0)


class TestDifference:
    def test_one_direction_in_each_is_fully_correlated(self) -> None:
        a, b = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([[5.0, 2.0], [5.0, -2.0]])
        assert difference_loss(a, b).item() == pytest.approx(1.0)

    def test_independent_directions_are_orthogonal(self) -> None:
        a, b = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]), torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
        assert difference_loss(a, b).item() == pytest.approx(0.0)

    def test_against_a_loop(self) -> None:
        a, b = normal(5, 2), normal(5, 3, seed=1)
        total = 0.0
        for i in range(2):
            for j in range(3):
                cell = 0.0
                for clip in range(5):
                    ca, cb = a[clip] - a.mean(dim=0), b[clip] - b.mean(dim=0)
                    cell += float(ca[i] / ca.norm() * cb[j] / cb.norm()) / 5
                total += cell**2
        assert difference_loss(a, b).item() == pytest.approx(total, rel=1e-5)


class TestContrast:
    @pytest.mark.parametrize("temperature", [1.0, 0.5])
    def test_orthogonal_pairs(self, temperature: float) -> None:
        a = torch.tensor([[2.0, 0.0], [0.0, 0.1]])  # length must not matter
        expected = math.log(1 + math.exp(-1 / temperature))
        assert info_nce(a, a, temperature).item() == pytest.approx(expected)
        assert contrastive_predictive_coding(a, a, temperature=temperature).item() == pytest.approx(expected)

    def test_negatives_are_the_other_targets(self) -> None:
        # Both predictions point at target 0: right for clip 0, and e to 1 against clip 1.
        prediction, target = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.eye(2)
        expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.e)) / 2
        assert contrastive_predictive_coding(prediction, target).item() == pytest.approx(expected)
        # The other way round, both targets see two equal predictions.
        assert contrastive_predictive_coding(target, prediction).item() == pytest.approx(math.log(2))
        assert info_nce(prediction, target, 1.0).item() == pytest.approx((expected + math.log(2)) / 2)


class TestMaximumMeanDiscrepancy:
    def test_worked_out_for_one_sample(self) -> None:
        # s = 1, D = 1, x = 0: k(x, x) = 1; E k(x, Z) = 1 / sqrt(2); E k(Z, Z') = 1 / sqrt(3).
        loss = maximum_mean_discrepancy(torch.zeros(1, 1), bandwidth=1.0)
        assert loss.item() == pytest.approx(1 - 2 / math.sqrt(2) + 1 / math.sqrt(3), abs=1e-6)

    @pytest.mark.parametrize("bandwidth", [None, 0.7])
    def test_closed_form_is_the_limit_of_drawn_priors(self, bandwidth: float | None) -> None:
        samples, prior = normal(6, 2) * 2 + 1, normal(4000, 2, seed=1)
        s2 = 2.0 if bandwidth is None else bandwidth**2

        def kernel(x: Tensor, y: Tensor) -> float:
            return float(torch.exp(-torch.cdist(x, y).square() / (2 * s2)).mean())

        drawn = kernel(samples, samples) - 2 * kernel(samples, prior) + kernel(prior, prior)
        assert maximum_mean_discrepancy(samples, bandwidth=bandwidth).item() == pytest.approx(drawn, abs=0.01)

    def test_prefers_the_prior(self) -> None:
        prior = normal(500, 3)
        loss = maximum_mean_discrepancy(prior).item()
        assert loss < 0.01
        assert maximum_mean_discrepancy(prior + 1).item() > 10 * loss
        assert maximum_mean_discrepancy(prior * 3).item() > 10 * loss


class TestReconstruction:
    def test_mean_over_real_steps(self) -> None:
        sequence = torch.tensor([[[1.0, 1.0], [0.0, 2.0]], [[3.0, 3.0], [NAN, NAN]]])
        mask = torch.tensor([[True, True], [True, False]])
        # Squared errors of the three real steps: (1, 1), (0, 4), (9, 9).
        assert reconstruction_loss(sequence, torch.zeros(2, 2, 2), mask).item() == pytest.approx(24 / 6)

    def test_masked_steps_get_no_gradient(self) -> None:
        made = torch.ones(1, 2, 2, requires_grad=True)
        reconstruction_loss(torch.tensor([[[1.0, 3.0], [NAN, NAN]]]), made, torch.tensor([[True, False]])).backward()
        assert made.grad.tolist() == [[[0.0, -2.0], [0.0, 0.0]]]  # 2 * (1 - 3) / 2 features

    def test_shapes_must_agree(self) -> None:
        with pytest.raises(ValueError, match=r"needs a reconstruction of the same shape and a mask \(2, 3\)"):
            reconstruction_loss(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), torch.ones(2, dtype=torch.bool))


class TestMatching:
    def test_an_undecided_classifier_costs_log_two(self) -> None:
        module = matching()
        torch.nn.init.zeros_(module.score.weight)
        torch.nn.init.zeros_(module.score.bias)
        assert module(normal(4, 3), normal(4, 3, seed=1)).item() == pytest.approx(math.log(2))
        # Alone, a clip has its positive only.
        assert module(normal(1, 3), normal(1, 3)).item() == pytest.approx(math.log(2) / 3)

    def test_against_a_loop(self) -> None:
        module, a, b = matching(), normal(4, 3), normal(4, 3, seed=1)

        def logit(x: Tensor, y: Tensor) -> Tensor:
            return module.score(torch.relu(module.left(x) + module.right(y) + module.product(x * y)))[0]

        def cosine(x: Tensor, y: Tensor) -> Tensor:
            return (x @ y) / (x.norm() * y.norm())

        total = torch.zeros(())
        for i in range(4):
            others = [j for j in range(4) if j != i]
            for_b = torch.stack([cosine(a[i], b[j]) / 0.5 for j in others]).softmax(0)
            for_a = torch.stack([cosine(a[j], b[i]) / 0.5 for j in others]).softmax(0)
            total += -torch.sigmoid(logit(a[i], b[i])).log()
            for w, j in zip(for_b, others, strict=True):
                total += -w * (1 - torch.sigmoid(logit(a[i], b[j]))).log()
            for w, j in zip(for_a, others, strict=True):
                total += -w * (1 - torch.sigmoid(logit(a[j], b[i]))).log()
        torch.testing.assert_close(module(a, b), total / 12)

    def test_learns_which_belong_together(self) -> None:
        module, a = matching(), normal(16, 3)
        optimiser = torch.optim.Adam(module.parameters(), lr=0.05)
        for _ in range(150):
            optimiser.zero_grad()
            module(a, -a).backward()
            optimiser.step()
        assert module(a, -a).item() < 0.4
        assert module(a, -a.roll(1, dims=0)).item() > 1.0


def naive_pseudo_labels(
    epochs: list[list[list[int]]],
    features: dict[str, list[Tensor]],
    has: dict[str, list[bool]],
    y: list[float],
    h: float,
) -> dict[tuple[int, int, str], float]:
    """Self-MM's label generation, clip by clip: `(epoch, clip, modality)` → label; `features[name][epoch][clip]`."""
    seen: dict[str, dict[int, Tensor]] = {name: {} for name in features}
    kept: dict[tuple[int, str], float] = {}
    passes: dict[tuple[int, str], int] = {}
    out: dict[tuple[int, int, str], float] = {}

    def relative(name: str, x: Tensor, known: dict[int, Tensor]) -> float | None:
        positive = [f for clip, f in known.items() if y[clip] > 0]
        negative = [f for clip, f in known.items() if y[clip] < 0]
        if not positive or not negative:
            return None
        d_p = (x - torch.stack(positive).mean(0)).norm()
        d_n = (x - torch.stack(negative).mean(0)).norm()
        return float((d_n - d_p) / (d_p + 1e-6))

    for epoch, batches in enumerate(epochs):
        for batch in batches:
            known = {name: dict(clips) for name, clips in seen.items()}  # centres stand still within a batch
            for clip in batch:
                r_m = relative("fusion", features["fusion"][epoch][clip], known["fusion"])
                for name in features:
                    if name != "fusion" and not has[name][clip]:
                        continue
                    x = features[name][epoch][clip]
                    i = passes[clip, name] = passes.get((clip, name), 0) + 1
                    r_s = relative(name, x, known[name])
                    if i == 1:
                        kept[clip, name] = y[clip]
                    elif r_s is not None and r_m is not None:
                        new = 0.5 * r_s / r_m * y[clip] + 0.5 * (y[clip] + r_s - r_m)
                        kept[clip, name] = (i - 1) / (i + 1) * kept[clip, name] + 2 / (i + 1) * min(h, max(-h, new))
                    seen[name][clip] = x
                    out[epoch, clip, name] = kept[clip, name]
    return out


class TestPseudoLabels:
    def test_three_passes_worked_out(self) -> None:
        generator = PseudoLabelGenerator({"fusion": 1, "text": 1}, epsilon=1e-9)
        both = {"text": torch.tensor([True, True])}
        one = {"text": torch.tensor([True])}
        first = generator(
            torch.tensor([0, 1]),
            {"fusion": torch.tensor([[1.0], [-1.0]]), "text": torch.tensor([[3.0], [-1.0]])},
            both,
            torch.tensor([[2.0], [-1.0]]),
        )
        assert first["text"].tolist() == [[2.0], [-1.0]]  # first pass: the multimodal label
        # Centres: fusion +1 / -1, text +3 / -1. r_m = (1.5 - .5) / .5 = 2, r_s = (1 - 3) / 3 = -2/3,
        # y = (-1/3 * 2) / 2 + (2 - 2/3 - 2) / 2 = -2/3; smoothed 1/3 * 2 + 2/3 * -2/3 = 2/9.
        at = torch.tensor([0]), torch.tensor([[2.0]])
        second = generator(at[0], {"fusion": torch.tensor([[0.5]]), "text": torch.tensor([[0.0]])}, one, at[1])
        assert second["text"].item() == pytest.approx(2 / 9, rel=1e-5)
        # Positive centres have moved to .5 and 0. r_m = (1 - .5) / .5 = 1, r_s = (2 - 1) / 1 = 1, y = 2;
        # smoothed 2/4 * 2/9 + 2/4 * 2 = 10/9.
        third = generator(at[0], {"fusion": torch.tensor([[0.0]]), "text": torch.tensor([[1.0]])}, one, at[1])
        assert third["text"].item() == pytest.approx(10 / 9, rel=1e-5)
        assert generator.current("text", torch.tensor([0, 1])).flatten().tolist() == pytest.approx([10 / 9, -1.0])

    @settings(deadline=None, max_examples=15)
    @given(seed=st.integers(0, 10_000))
    def test_against_a_loop_over_epochs(self, seed: int) -> None:
        torch.manual_seed(seed)
        clips, epochs, dims = 7, 4, {"fusion": 3, "text": 2, "eye.gaze": 4}
        labels = [2.0, -1.0, 0.0, 0.5, -2.5, 1.0, -0.2]
        features = {name: [list(torch.randn(clips, dim)) for _ in range(epochs)] for name, dim in dims.items()}
        has = {"text": [True] * clips, "eye.gaze": [True, False, True, True, True, False, True]}
        orders = [torch.randperm(clips).tolist() for _ in range(epochs)]
        batches = [[order[:3], order[3:6], order[6:]] for order in orders]
        expected = naive_pseudo_labels(batches, features, has, labels, 3.0)
        generator = PseudoLabelGenerator(dims)
        for epoch in range(epochs):
            for batch in batches[epoch]:
                made = generator(
                    torch.tensor(batch),
                    {name: torch.stack([features[name][epoch][clip] for clip in batch]) for name in dims},
                    {name: torch.tensor([flags[clip] for clip in batch]) for name, flags in has.items()},
                    torch.tensor([[labels[clip]] for clip in batch]),
                )
                for name, flags in has.items():
                    for row, clip in enumerate(batch):
                        value = made[name][row, 0].item()
                        if flags[clip]:
                            assert value == pytest.approx(expected[epoch, clip, name], rel=1e-3, abs=1e-3)
                        else:
                            assert math.isnan(value)

    def test_stays_in_range_when_the_anchor_is_undecided(self) -> None:
        generator = PseudoLabelGenerator({"fusion": 1, "text": 1}, label_range=1.0)
        present = {"text": torch.ones(2, dtype=torch.bool)}
        spaces = {"fusion": torch.tensor([[1.0], [-1.0]]), "text": torch.tensor([[1.0], [-1.0]])}
        index, target = torch.tensor([0, 1]), torch.tensor([[1.0], [-0.5]])
        generator(index, spaces, present, target)
        middle = {"fusion": torch.zeros(2, 1), "text": torch.tensor([[1.0], [0.9]])}  # r_m is exactly 0
        for _ in range(5):
            made = generator(index, middle, present, target)["text"]
            assert torch.isfinite(made).all()
            assert (made.abs() <= 1).all()

    def test_unlabelled_clips_take_no_part(self) -> None:
        generator = PseudoLabelGenerator({"fusion": 1, "text": 1})
        made = generator(
            torch.tensor([0, 9]),
            {"fusion": torch.ones(2, 1), "text": torch.ones(2, 1)},
            {"text": torch.ones(2, dtype=torch.bool)},
            torch.tensor([[1.0], [NAN]]),
        )
        assert made["text"][0].item() == 1.0
        assert math.isnan(made["text"][1].item())
        assert generator.clips == 1  # no room was made for the unlabelled one

    def test_grows_and_keeps_what_it_knows(self) -> None:
        generator = PseudoLabelGenerator({"fusion": 1, "text": 1})
        present = {"text": torch.ones(1, dtype=torch.bool)}
        spaces = {"fusion": torch.ones(1, 1), "text": torch.ones(1, 1)}
        generator(torch.tensor([1]), spaces, present, torch.tensor([[0.5]]))
        generator(torch.tensor([6]), spaces, present, torch.tensor([[-2.0]]))
        assert generator.clips == 7
        assert generator.current("text", torch.tensor([1, 6])).flatten().tolist() == [0.5, -2.0]
        assert generator.current("text", torch.tensor([0])).isnan().all()

    def test_state_is_not_saved_and_moves_with_the_module(self) -> None:
        generator = PseudoLabelGenerator({"fusion": 1, "text": 1})
        generator.resize(3)
        assert generator.state_dict() == {}
        PseudoLabelGenerator({"fusion": 1, "text": 1}).load_state_dict(generator.state_dict(), strict=True)
        assert {tuple(b.shape) for b in generator.to("meta").buffers()} == {(3, 1), (3,)}
        assert all(b.is_meta for b in generator.buffers())

    def test_bad_arguments(self) -> None:
        with pytest.raises(ValueError, match="needs the size of the reference 'fusion', but has text only"):
            PseudoLabelGenerator({"text": 1})
        with pytest.raises(ValueError, match=r"label_range .* must be positive, not 0"):
            PseudoLabelGenerator({"fusion": 1}, label_range=0)
        with pytest.raises(ValueError, match=r"target must be \(1, 1\).*not \(1, 2\)"):
            PseudoLabelGenerator({"fusion": 1})(torch.tensor([0]), {"fusion": torch.ones(1, 1)}, {}, torch.ones(1, 2))
