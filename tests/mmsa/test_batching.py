from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsa.batching import JITTER, cut, cut_parts, padding_share, shuffled_batches, sorted_batches


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


lengths = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 200)), min_size=1, max_size=40)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(steps=lengths, size=st.integers(1, 9), seed=st.integers(0, 99), bucketing=st.booleans())
def test_every_clip_comes_exactly_once(steps: list[tuple[int, int]], size: int, seed: int, bucketing: bool) -> None:
    batches = shuffled_batches(np.array(steps), size, rng(seed), bucketing=bucketing)
    assert sorted(int(i) for batch in batches for i in batch) == list(range(len(steps)))
    sizes = sorted(len(batch) for batch in batches)
    assert all(count == size for count in sizes[1:])
    assert 1 <= sizes[0] <= size
    again = shuffled_batches(np.array(steps), size, rng(seed), bucketing=bucketing)
    assert [batch.tolist() for batch in again] == [batch.tolist() for batch in batches]


@pytest.mark.parametrize("bucketing", [True, False])
def test_epochs_differ_in_what_meets_and_in_the_order(bucketing: bool) -> None:
    steps = rng(1).integers(5, 50, (64, 2))
    generator = rng()
    epochs = [shuffled_batches(steps, 8, generator, bucketing=bucketing) for _ in range(6)]
    met = {frozenset(batch.tolist()) for batches in epochs for batch in batches}
    assert len(met) > 30  # of 48; with the same ones in every epoch it would be 8
    longest = [int(np.argmax([steps[batch].sum() for batch in batches])) for batches in epochs]
    assert len(set(longest)) > 1  # the batch of the longest clips does not always stand at one place


def test_clips_of_a_batch_are_about_equally_long() -> None:
    """Twice the jitter apart, clips never change places in the sorted order: short and long ones never meet."""
    steps = np.array([[1, 9], [49, 50]] * 32)  # 10 and 99 steps: far more than 2 * JITTER apart
    for batch in shuffled_batches(steps, 8, rng(), bucketing=True):
        assert len(set(steps[batch].sum(axis=1))) == 1
    assert 2 * JITTER < 0.9
    mixed = shuffled_batches(steps, 8, rng(), bucketing=False)
    assert any(len(set(steps[batch].sum(axis=1))) == 2 for batch in mixed)


def test_bucketing_pads_less() -> None:
    steps = np.ceil(rng(3).lognormal(3, 0.7, (500, 1)) * [1, 7]).astype(np.int64)
    share = {on: padding_share(steps, shuffled_batches(steps, 16, rng(), bucketing=on)) for on in (True, False)}
    assert share[True] < 0.4 * share[False]


def test_the_batch_with_the_rest_may_hold_short_or_long_clips() -> None:
    steps = np.arange(1, 10).reshape(-1, 1) ** 3  # so far apart that the order is always the same
    rests = set()
    for seed in range(30):
        (rest,) = (batch for batch in shuffled_batches(steps, 4, rng(seed), bucketing=True) if len(batch) == 1)
        rests.add(int(rest[0]))
    assert rests == {0, 4, 8}  # before, between and after two batches of four


def test_evaluation_goes_from_long_to_short() -> None:
    steps = np.array([[1, 1], [5, 0], [0, 0], [2, 4]])
    assert [batch.tolist() for batch in sorted_batches(steps, 3)] == [[3, 1, 0], [2]]


def test_padding_by_hand() -> None:
    steps = np.array([[1, 4], [3, 2], [0, 0]])
    # Clips 0 and 1: 2 * 3 + 2 * 4 = 14 places hold 4 + 6 = 10 steps. Clip 2 alone: one place each, no step.
    assert padding_share(steps, [np.array([0, 1]), np.array([2])]) == pytest.approx(1 - 10 / 16)
    assert padding_share(steps, []) == 0.0


def test_cutting_keeps_the_order() -> None:
    assert [part.tolist() for part in cut(np.array([4, 2, 9, 1, 5]), 2)] == [[4, 2], [9, 1], [5]]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(steps=lengths, most=st.integers(1, 900), seed=st.integers(0, 99))
def test_parts_hold_a_batch_and_no_more_steps_than_allowed(steps: list[tuple[int, int]], most: int, seed: int) -> None:
    table = np.array(steps)
    batch = rng(seed).permutation(len(table))[: max(1, len(table) // 2)]
    parts = cut_parts(table, batch, most)
    assert sorted(np.concatenate(parts).tolist()) == sorted(batch.tolist())
    sums = table.sum(axis=1)[np.concatenate(parts)]
    assert (np.diff(sums) <= 0).all() if len(parts) > 1 else parts[0].tolist() == batch.tolist()
    held = [len(part) * table[part].max(axis=0).sum() for part in parts]
    assert all(count <= most or len(part) == 1 for count, part in zip(held, parts, strict=True))
    # None could have taken the next one's first clip as well.
    for part, following in pairwise(parts):
        more = np.append(part, following[0])
        assert len(more) * table[more].max(axis=0).sum() > most


def test_parts_by_hand() -> None:
    """Sums 4, 9, 2, 9, 3: the two long ones hold 2 * (8 + 1), the next two 2 * (3 + 2), the last is left."""
    steps = np.array([[3, 1], [8, 1], [1, 1], [8, 1], [1, 2]])
    assert [part.tolist() for part in cut_parts(steps, np.arange(5), 18)] == [[1, 3], [0, 4, 2]]
    assert [part.tolist() for part in cut_parts(steps, np.arange(5), 10)] == [[1], [3], [0, 4], [2]]
