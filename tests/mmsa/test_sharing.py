from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmsa.distributed import Group
from mmsa.sharing import BUCKET_NUMBERS, Sharing, _buckets, share_batches

if TYPE_CHECKING:
    from conftest import Launched

CPU = torch.device("cpu")
CASES = ("plain", "parts", "weighted", "unused", "concordance", "concordance_parts", "pseudo_labels")


def sharing(rank: int, size: int, *, together: bool = False) -> Sharing:
    return Sharing(Group(rank, size), together=together, seed=1, device=CPU)


def rows(*clips: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(clips, np.int64)


class TestPieces:
    STEPS = np.array([[9], [7], [5], [3], [2], [1], [4]], np.int64)
    BATCHES = ((rows(0, 1, 2), rows(3, 4)), (rows(5), rows(6)))

    def test_every_clip_is_computed_once(self) -> None:
        for together in (False, True):
            for size in (2, 3, 8):
                pieces = [
                    sharing(rank, size, together=together).pieces(self.STEPS, self.BATCHES, 10) for rank in range(size)
                ]
                assert sorted(int(clip) for own in pieces for piece in own for clip in piece) == list(range(7))

    def test_together_means_as_many_parts_in_every_process(self) -> None:
        first, second = (sharing(rank, 2, together=True).pieces(self.STEPS, self.BATCHES, None) for rank in range(2))
        assert [piece.tolist() for piece in first] == [[0, 2], [3], [5], [6]]
        assert [piece.tolist() for piece in second] == [[1], [4], [], []]

    def test_alone_a_process_keeps_to_the_bound_and_skips_what_is_empty(self) -> None:
        own = sharing(0, 2).pieces(self.STEPS, self.BATCHES, 14)
        assert [piece.tolist() for piece in own] == [[0], [2, 4], [5]]  # 0, 2 and 4 of the first batch: 9, then 2 × 5
        assert sharing(2, 3).pieces(self.STEPS, (self.BATCHES[1],), None) == []


@pytest.mark.slow
class TestUpdates:
    @pytest.mark.parametrize("name", CASES)
    def test_two_processes_make_the_updates_of_one(self, launched: Launched, name: str) -> None:
        """Weights, optimiser, moving average and what heads remember, after updates with shares of unequal size."""
        torch.set_num_threads(1)
        start = launched.jobs.new_trainer(name, alone=True).tensors()
        expected, told = launched.jobs.make_updates(launched.jobs.new_trainer(name, alone=True))
        assert any(not torch.equal(expected[key], start[key]) for key in start if key.startswith("model."))
        for tensors, facts in zip(launched.tensors(name), launched.facts(name), strict=True):
            assert_same(tensors, expected, 2e-5)
            for own, one in zip(facts["updates"], told["updates"], strict=True):
                assert own["terms"] == pytest.approx(one["terms"], abs=1e-5)
                assert own["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)
                assert (own["clips"], own["learning_rate"]) == (one["clips"], one["learning_rate"])
        assert_same(*launched.tensors(name), 0)

    def test_a_parameter_without_a_gradient_is_left_alone(self, launched: Launched) -> None:
        """Weight decay would shrink it: AdamW passes over parameters that have none, and so must processes."""
        trainer = launched.jobs.new_trainer("unused", alone=True)
        start = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        found = launched.tensors("unused")[0]
        unused = [key for key in start if "predictors" in key]
        assert unused
        assert all(torch.equal(found[f"model.{key}"], start[key]) for key in unused)

    def test_bf16_stays_near(self, launched: Launched) -> None:
        """Eight bits of mantissa: sums in another order differ by a few parts in a hundred of a step of 0.02."""
        _, told = launched.jobs.make_updates(launched.jobs.new_trainer("bf16", alone=True))
        for facts in launched.facts("bf16"):
            for own, one in zip(facts["updates"], told["updates"], strict=True):
                assert own["terms"] == pytest.approx(one["terms"], abs=5e-3)

    def test_losses_that_each_process_makes_alone_are_named(self, launched: Launched) -> None:
        for facts in launched.facts("own_losses"):
            assert facts["split"] == ["difference", "reconstruction", "similarity"]
        assert all(facts["updates"] for facts in launched.facts("pseudo_labels"))

    def test_processes_draw_dropout_apart_and_stay_in_step(self, launched: Launched) -> None:
        first, second = launched.facts("dropout")
        torch.manual_seed(5)
        assert first["after"] == second["after"] == torch.rand(()).item()
        assert first["drawn"][0] == first["drawn"][2] != first["drawn"][1]
        assert not {value for draw in first["drawn"] for value in draw} & {v for draw in second["drawn"] for v in draw}


@pytest.mark.slow
class TestEvaluation:
    def test_it_is_that_of_one_process_and_no_clip_is_computed_twice(self, launched: Launched) -> None:
        expected, facts = launched.jobs.evaluation(launched.folder)
        assert sum(facts["computed"]) == 9 + 1
        for tensors, own in zip(launched.tensors("evaluation"), launched.facts("evaluation"), strict=True):
            assert_same(tensors, expected, 0)
            assert own["loss"] == facts["loss"]
        computed = [own["computed"] for own in launched.facts("evaluation")]
        # Nine clips in batches of two; of the split with one clip the second process computes a stand-in.
        assert [sum(own) - 1 for own in computed] == [5, 4]


class TestShareBatches:
    BATCHES = (rows(4, 2), rows(0, 3), rows(1))

    def test_alone_it_brings_rows_back_in_order(self) -> None:
        shares = share_batches(self.BATCHES, nn.Linear(1, 1))
        assert [batch.tolist() for batch in shares.own] == [[4, 2], [0, 3], [1]]
        values = torch.tensor([4.0, 2.0, 0.0, 3.0, 1.0])
        assert shares.in_order({"": values})[""].tolist() == [0, 1, 2, 3, 4]


def test_buckets_hold_one_type_and_few_numbers() -> None:
    sizes = (BUCKET_NUMBERS - 1, 1, 1, BUCKET_NUMBERS + 5, 2)
    tensors: list[Tensor] = [torch.empty(size, device="meta") for size in sizes]
    tensors.append(torch.empty(1, dtype=torch.float64, device="meta"))
    found = [[tensor.numel() for tensor in bucket] for bucket in _buckets(tensors)]
    assert found == [[BUCKET_NUMBERS - 1, 1], [1], [BUCKET_NUMBERS + 5], [2], [1]]


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor], atol: float) -> None:
    assert set(one) == set(other)
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=0, atol=atol, msg=lambda text, key=key: f"{key}: {text}")
