"""Shapley values against their axioms and against the average over all orders of arrival."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fusion import testing
from fusion.attribution import shapley_values
from fusion.catalog import head_class, head_classes
from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.pooling import masked_mean
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 6, "vision": 4}
LENGTHS = {"text": [4, 1, 6, 3], "audio": [9, 7, 1, 8], "vision": [5, 0, 2, 7]}


class Game(FusionHead):
    """Looks the prediction up in a table over subsets: any game of `count` players."""

    name, family, paper = "game", "late", "Nobody, 2026"

    def __init__(self, table: Tensor) -> None:
        count = len(table).bit_length() - 1
        super().__init__({f"m{k}": 1 for k in range(count)}, table.shape[1])
        self.register_buffer("table", table)
        self.dropout = nn.Dropout(0.5)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        present = stack_present(inputs)
        code = (present * 2 ** torch.arange(present.shape[1])).sum(dim=1)
        return FusionOutput(self.dropout(self.table[code]))


class Additive(FusionHead):
    """Sum of one linear term per present modality."""

    name, family, paper = "additive", "late", "Nobody, 2026"

    def __init__(self) -> None:
        super().__init__(DIMS, 2)
        self.maps = nn.ModuleDict({key: nn.Linear(dim, 2) for key, dim in self.input_dims.items()})

    def terms(self, inputs: dict[str, ModalitySequence]) -> dict[str, Tensor]:
        return {key: self.maps[key](masked_mean(s)) * s.present[:, None] for key, s in inputs.items()}

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        return FusionOutput(torch.stack(list(self.terms(inputs).values())).sum(dim=0))


def players(count: int, clips: int = 1) -> testing.Batch:
    names = {f"m{k}": 1 for k in range(count)}
    return testing.ragged_batch(names, dict.fromkeys(names, [1] * clips))


def random_table(count: int, seed: int) -> Tensor:
    return torch.randn(2**count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stacked(values: dict[str, Tensor]) -> Tensor:
    return torch.stack([values[key] for key in sorted(values)])  # (M, B, O)


games = st.tuples(st.integers(1, 5), st.integers(0, 10_000))


@settings(max_examples=40, deadline=None)
@given(game=games)
def test_equals_the_average_over_orders_of_arrival(game: tuple[int, int]) -> None:
    count, seed = game
    table = random_table(count, seed)
    values = stacked(shapley_values(Game(table), players(count), baseline=table[0]))[:, 0]
    expected = torch.zeros_like(values)
    orders = list(permutations(range(count)))
    for order in orders:
        code = 0
        for player in order:
            expected[player] += (table[code | 1 << player] - table[code]) / len(orders)
            code |= 1 << player
    assert torch.allclose(values, expected, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(game=games, baseline=st.floats(-5, 5))
def test_efficiency(game: tuple[int, int], baseline: float) -> None:
    count, seed = game
    table = random_table(count, seed)
    values = stacked(shapley_values(Game(table), players(count), baseline=baseline))
    assert torch.allclose(values.sum(dim=0)[0], table[-1] - baseline, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), first=st.floats(-3, 3), second=st.floats(-3, 3))
def test_linearity(seed: int, first: float, second: float) -> None:
    one, two = random_table(3, seed), random_table(3, seed + 1)
    one[0] = two[0] = 0
    together = stacked(shapley_values(Game(first * one + second * two), players(3)))
    apart = [stacked(shapley_values(Game(table), players(3))) for table in (one, two)]
    assert torch.allclose(together, first * apart[0] + second * apart[1], atol=1e-12)


def test_symmetric_players_get_the_same_and_a_dummy_gets_nothing() -> None:
    """m0 and m1 are interchangeable, m2 never matters: 6 for both together, 1 for either alone."""
    worth = {0b00: 0.0, 0b01: 1.0, 0b10: 1.0, 0b11: 6.0}
    table = torch.tensor([[worth[code & 0b11]] for code in range(8)])
    values = shapley_values(Game(table), players(3))
    assert {key: value.item() for key, value in values.items()} == pytest.approx({"m0": 3.0, "m1": 3.0, "m2": 0.0})


def test_the_glove_game() -> None:
    """A left glove (m0) and two right ones; only a pair is worth 1: 2/3, 1/6, 1/6 (Shapley's own example)."""
    table = torch.tensor([[float(code & 1 and code > 1)] for code in range(8)])
    values = shapley_values(Game(table), players(3))
    assert [values[f"m{k}"].item() for k in range(3)] == pytest.approx([2 / 3, 1 / 6, 1 / 6])


def test_an_additive_head_is_its_terms() -> None:
    torch.manual_seed(0)
    head = Additive().eval()
    batch = testing.ragged_batch(DIMS, LENGTHS)
    values = shapley_values(head, batch)
    terms = head.terms({key: s.zeroed() for key, s in sorted(batch.items())})
    for key, term in terms.items():
        assert torch.allclose(values[key], term, atol=1e-6)
    assert (values["vision"][1] == 0).all()


@pytest.mark.parametrize("name", list(head_classes()))
def test_around_every_head(name: str) -> None:
    """Efficiency per clip; a missing modality gets exactly 0 and is no player: the others share as if alone."""
    torch.manual_seed(0)
    head = head_class(name)(input_dims=DIMS, output_dim=2).train()
    batch = testing.ragged_batch(DIMS, {key: [4, 1, 6, 3] for key in DIMS} if head.needs_alignment else LENGTHS)
    empty = torch.zeros_like(batch["vision"].mask[1])
    mask = torch.stack([row if k != 1 else empty for k, row in enumerate(batch["vision"].mask)])
    batch["vision"] = ModalitySequence(batch["vision"].values, mask)
    baseline = torch.tensor([0.3, -0.2])
    values = shapley_values(head, batch, baseline=baseline)
    assert head.training, "the mode was not restored"
    prediction = head.eval()(batch).prediction
    assert torch.allclose(stacked(values).sum(dim=0), prediction - baseline, atol=1e-4)
    assert (values["vision"][1] == 0).all()
    del batch["vision"]
    alone = shapley_values(head, batch, baseline=baseline)
    for key in ("audio", "text"):
        assert torch.allclose(alone[key][1], values[key][1], atol=1e-5)
    assert (alone["vision"] == 0).all()


@pytest.mark.parametrize("max_batch", [1, 5, 1000])
def test_chunks_do_not_change_values(max_batch: int) -> None:
    rows: list[int] = []
    table = random_table(3, 1)
    game = Game(table)
    game.register_forward_hook(lambda module, args, output: rows.append(len(output.prediction)))
    batch = players(3, clips=4)
    chunked = stacked(shapley_values(game, batch, max_batch=max_batch))
    assert sum(rows) == 7 * 4
    assert max(rows) == min(max_batch, 28)
    assert torch.equal(chunked, stacked(shapley_values(game, batch)))


def test_an_output_of_choice_is_explained() -> None:
    table = random_table(2, 4)
    values = shapley_values(Game(table), players(2), output=lambda o: o.prediction.softmax(-1), baseline=0.5)
    assert torch.allclose(stacked(values).sum(dim=0)[0], table[-1].softmax(-1) - 0.5, atol=1e-12)


def test_a_clip_with_nothing_in_it_gets_nothing() -> None:
    batch = testing.ragged_batch({"m0": 1, "m1": 1}, {"m0": [1, 0], "m1": [1, 0]})
    values = stacked(shapley_values(Game(random_table(2, 0)), batch))
    assert (values[:, 1] == 0).all()
    assert (values[:, 0] != 0).all()


def test_each_part_returns_to_its_own_mode_and_no_graph_is_kept() -> None:
    game = Game(random_table(2, 0).float()).train()
    game.dropout.eval()
    values = shapley_values(game, players(2))
    assert (game.training, game.dropout.training) == (True, False)
    assert not any(value.requires_grad for value in values.values())


def test_wrong_arguments_are_named() -> None:
    game = Game(random_table(2, 0))
    with pytest.raises(ValueError, match="max_batch must be at least 1 row per forward pass, not 0"):
        shapley_values(game, players(2), max_batch=0)
    with pytest.raises(ValueError, match="built for m0, m1 and was given m0, m1, m2"):
        shapley_values(game, players(3))
    with pytest.raises(ValueError, match="was given nothing"):
        shapley_values(game, {})
