from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsa.robustness.missing import look_up, thin_out

MODALITIES = ("audio", "text", "vision")
SUBSETS = [subset for size in (1, 2, 3) for subset in combinations(MODALITIES, size)]


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(0, 5))
def test_one_modality_always_stays_and_none_appears(seed: int, rate: float, repeat: int) -> None:
    present = np.random.default_rng(seed).random((40, 3)) < 0.7
    found = thin_out(present, rate, seed=seed, repeat=repeat)
    assert not (found.kept & ~present).any()
    np.testing.assert_array_equal(found.kept.any(axis=1), present.any(axis=1))
    assert found.realised == pytest.approx((present.sum() - found.kept.sum()) / max(1, present.sum()))


def test_the_ends() -> None:
    present = np.array([[True, True, True], [True, False, True], [False, False, False], [False, True, False]])
    np.testing.assert_array_equal(thin_out(present, 0.0, seed=0, repeat=0).kept, present)
    assert thin_out(present, 1.0, seed=0, repeat=0).kept.sum(axis=1).tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_modalities_go_at_the_rate_but_for_the_last(rate: float) -> None:
    """Of three, all would go with chance rate³, and then one stays: (3 · rate - rate³) / 3 of them are gone."""
    found = thin_out(np.ones((20000, 3), bool), rate, seed=1, repeat=0)
    expected = rate - rate**3 / 3
    assert found.realised == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 60000))
    per_modality = 1 - found.kept.mean(axis=0)
    np.testing.assert_allclose(per_modality, expected, atol=4 * np.sqrt(expected * (1 - expected) / 20000))


def test_what_goes_at_one_rate_goes_at_every_higher_one() -> None:
    present = np.ones((500, 3), bool)
    kept = [thin_out(present, rate, seed=3, repeat=2).kept for rate in (0.1, 0.4, 0.7, 1.0)]
    for more, fewer in pairwise(kept):
        assert not (fewer & ~more).any()


def test_draws_follow_from_seed_and_repeat() -> None:
    present = np.ones((100, 3), bool)
    first, same, seed, repeat = (
        thin_out(present, 0.5, seed=s, repeat=r).kept for s, r in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, seed)
    assert not np.array_equal(first, repeat)


def test_answers_are_those_for_what_each_clip_has_left() -> None:
    """Outputs that spell out which subset gave them."""
    codes = {key: 4**i for i, key in enumerate(MODALITIES)}
    found = {s: {"t": np.full((8, 1), sum(codes[key] for key in s), np.float32)} for s in SUBSETS}
    kept = np.array([[bool(n & 1), bool(n & 2), bool(n & 4)] for n in range(8)])
    answers = look_up(found, MODALITIES, kept)["t"][:, 0]
    expected = [sum(codes[key] for key, has in zip(MODALITIES, row, strict=True) if has) for row in kept]
    expected[0] = sum(codes.values())  # a clip that has nothing is answered as with all
    np.testing.assert_array_equal(answers, expected)
