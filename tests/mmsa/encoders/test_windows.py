from __future__ import annotations

import numpy as np
import pytest
import torch

from mmsa.encoders.windows import Windows, cut, join


def spans(windows: Windows) -> list[tuple[int, int, int]]:
    return list(zip(windows.clips.tolist(), windows.firsts.tolist(), windows.counts.tolist(), strict=True))


def test_short_clips_are_one_window_each() -> None:
    assert spans(cut(np.array([3, 8, 1]), 8)) == [(0, 0, 3), (1, 0, 8), (2, 0, 1)]


def test_long_clips_overlap_by_half() -> None:
    assert spans(cut(np.array([11, 2]), 4)) == [(0, 0, 4), (0, 2, 4), (0, 4, 4), (0, 6, 4), (0, 8, 3), (1, 0, 2)]


def test_windows_begin_at_multiples() -> None:
    """Half of 7 is 4 after rounding up; the next multiple of 3 below is 3."""
    assert [first for _, first, _ in spans(cut(np.array([12]), 7, multiple=3))] == [0, 3, 6]


def test_places() -> None:
    place, real = cut(np.array([5]), 4).places(torch.device("cpu"))
    assert place.tolist() == [[0, 1, 2, 3], [2, 3, 4, 0]]
    assert real.tolist() == [[True] * 4, [True, True, True, False]]


@pytest.mark.parametrize("most", [2, 3, 4, 7])
def test_what_was_cut_is_joined_again(most: int) -> None:
    """Where a state is what its step is, whichever window it comes from, joining gives the clip back."""
    lengths = np.array([1, most, most + 1, 3 * most + 2])
    windows = cut(lengths, most)
    place, _ = windows.places(torch.device("cpu"))
    states = (place + 100 * torch.from_numpy(windows.clips).unsqueeze(1)).float().unsqueeze(2)
    joined, mask = join(states, windows, len(lengths))
    for row, length in enumerate(lengths):
        assert joined[row, :length, 0].tolist() == [100 * row + step for step in range(length)]
        assert mask[row].tolist() == [step < length for step in range(mask.shape[1])]
    assert (joined[~mask] == 0).all()


def test_each_step_from_where_it_stands_furthest_from_an_edge() -> None:
    """Two windows of 4 over 6 steps: the edges inside are behind step 3 and before step 2."""
    windows = cut(np.array([6]), 4)
    states = torch.tensor([[[1.0]] * 4, [[2.0]] * 4])
    joined, _ = join(states, windows, 1)
    # Step 2 is one from the end of the first window and at the beginning of the second; step 3 is the opposite.
    assert joined[0, :, 0].tolist() == [1, 1, 1, 2, 2, 2]
