from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import mmsa.encoders.moments
from fusion import ModalitySequence
from mmsa.data import SplitData
from mmsa.encoders.moments import encoder_moments
from mmsa.tasks import Regression

TASKS = (Regression("score", -1, 1),)


class Doubling(torch.nn.Module):
    """Two features, x and 2 x, of every step but the first."""

    dim = 2

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        assert not self.training
        assert not torch.is_grad_enabled()
        values = torch.cat([sequence.values, 2 * sequence.values], dim=2)
        return ModalitySequence(values[:, 1:], sequence.mask[:, 1:])


@pytest.mark.parametrize("most", [100, 3])
def test_sums_over_real_states(
    make_corpus: Callable, make_table: Callable, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(mmsa.encoders.moments, "CLIPS", most)
    monkeypatch.setattr(mmsa.encoders.moments, "_BATCH", 2)
    clips = [np.full((length, 1), float(number)) for number, length in enumerate((3, 0, 2, 4, 2, 9))]
    splits = ["train"] * 5 + ["valid"]
    table = make_table("text", clips)
    data = SplitData(make_corpus(TASKS, splits, [{"score": 0.0}] * 6), {"text": table}, "train", TASKS)
    encoder = Doubling().train()
    found = encoder_moments(encoder, data, "text")  # type: ignore[arg-type]
    # Clips 0, 2, 3, 4 have 2, 1, 3, 1 states; of the four, three evenly spread are the 1st, the 3rd (2 rounded from
    # 1.5 to even) and the 4th.
    used = {0: 2, 2: 1, 3: 3, 4: 1} if most == 100 else {0: 2, 3: 3, 4: 1}
    assert found.count == sum(used.values())
    total = sum(clip * count for clip, count in used.items())
    squares = sum(clip**2 * count for clip, count in used.items())
    assert found.total.tolist() == [total, 2 * total]
    assert found.squares.tolist() == [squares, 4 * squares]
    assert encoder.training
