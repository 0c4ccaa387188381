"""Stacking: from batches to the table of meta-weights, and from the table to predictions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fusion import ModalitySequence, StackingFusion
from fusion.meta_learner import MetaProblem, choose_penalty, fit_table
from fusion.stacking import one_hot_columns
from fusion.testing import ragged_batch, without

DIMS = {"audio": 2, "text": 3, "vision": 2}
ROWS = {"audio": 1, "text": 2, "vision": 4}


def small_head(outputs: int = 1, **options: object) -> StackingFusion:
    torch.manual_seed(0)
    return StackingFusion(DIMS, outputs, hidden_dim=4, encoder="none", pooling="mean", **options)  # type: ignore[arg-type]


def test_it_averages_before_it_is_fitted() -> None:
    head = small_head(outputs=2).eval()
    output = head(ragged_batch(DIMS, {"audio": [4, 2], "text": [1, 5], "vision": [3, 0]}))
    audio, text, vision = (output.unimodal[key] for key in ("audio", "text", "vision"))
    torch.testing.assert_close(output.prediction[0], (audio[0] + text[0] + vision[0]) / 3)
    torch.testing.assert_close(output.prediction[1], (audio[1] + text[1]) / 2)
    assert [output.weights[key][1].item() for key in ("audio", "text", "vision")] == [0.5, 0.5, 0.0]


def test_the_table_is_read_by_what_is_present() -> None:
    head = small_head().eval()
    both = ROWS["audio"] + ROWS["text"]
    head.meta_weights[both] = torch.tensor([[2.0], [-6.0], [0.0]])
    head.meta_intercept[both] = 0.25
    batch = ragged_batch(DIMS, {key: [3] for key in DIMS})
    output = head(without(batch, ["vision"]))
    expected = 2.0 * output.unimodal["audio"] - 6.0 * output.unimodal["text"] + 0.25
    torch.testing.assert_close(output.prediction, expected)
    assert [output.weights[key].item() for key in ("audio", "text", "vision")] == [0.25, 0.75, 0.0]
    complete = head(batch)
    torch.testing.assert_close(complete.prediction, sum(complete.unimodal.values()) / 3)


def held_out_batches(clips: int = 40) -> list[tuple[dict[str, ModalitySequence], Tensor]]:
    """Two batches; vision is missing in some clips, is not given at all in the second, and one label is unknown."""
    first = ragged_batch(DIMS, {"audio": [3] * clips, "text": [2] * clips, "vision": [4, 0] * (clips // 2)}, seed=1)
    second = ragged_batch(DIMS, {"audio": [3] * clips, "text": [2] * clips, "vision": [1] * clips}, seed=2)
    del second["vision"]
    targets = [torch.randn(clips, 1, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)]
    targets[0][5] = float("nan")
    return [(first, targets[0]), (second, targets[1])]


def test_fit_after_training_learns_from_the_held_out_predictions() -> None:
    head = small_head(dropout=0.5)
    head.train()
    batches = held_out_batches()
    head.fit_after_training(batches)
    assert head.training
    head.eval()
    rows, present, target = [], [], []
    for inputs, wanted in batches:
        unimodal = head(inputs).unimodal
        none = torch.zeros(len(wanted), dtype=torch.bool)
        rows.append(torch.stack([unimodal[key].detach() for key in DIMS], dim=1))
        present.append(torch.stack([inputs[key].present if key in inputs else none for key in DIMS], dim=1))
        target.append(wanted)
    wanted = torch.cat(target)
    known = ~wanted.isnan().squeeze(1)
    problem = MetaProblem(
        torch.cat(rows)[known].double(), torch.cat(present)[known], wanted[known].double(), classes=False
    )
    weights, intercepts = fit_table(problem, choose_penalty(problem))
    torch.testing.assert_close(head.meta_weights[..., 0], weights.float())
    torch.testing.assert_close(head.meta_intercept, intercepts.float())
    assert (weights[-1] - 1 / 3).abs().max() > 0.01  # it is not the average that it started from


def test_stacking_beats_the_average_on_new_clips() -> None:
    """Audio is right but at a third of its size, text is noise, vision is right but off by one."""
    generator = torch.Generator().manual_seed(0)

    def predictions(clips: int) -> tuple[dict[str, Tensor], Tensor]:
        truth = torch.randn(clips, 1, generator=generator)
        noise = [torch.randn(clips, 1, generator=generator) for _ in range(3)]
        given = {
            "audio": truth / 3 + 0.1 * noise[0],
            "text": 2 * noise[1],
            "vision": truth + 1 + 0.8 * noise[2],
        }
        return given, truth

    head = small_head()
    given, truth = predictions(200)
    head.fit_meta(given, {key: torch.ones(200, dtype=torch.bool) for key in DIMS}, truth)
    fresh, truth = predictions(500)

    def error(key_subset: tuple[str, ...]) -> tuple[float, float]:
        row = sum(ROWS[key] for key in key_subset)
        stacked = head.meta_intercept[row] + sum(
            head.meta_weights[row, list(DIMS).index(key)] * fresh[key] for key in key_subset
        )
        average = sum(fresh[key] for key in key_subset) / len(key_subset)
        return (stacked - truth).square().mean().item(), (average - truth).square().mean().item()

    for subset in (("audio", "text", "vision"), ("audio", "text"), ("text", "vision"), ("vision",)):
        stacked, average = error(subset)
        assert stacked < 0.7 * average, subset
    assert head.meta_weights[-1, 1].abs() < 0.05


def test_scores_and_classes_side_by_side() -> None:
    """One score and three classes: each task is fitted as if it were alone, the classes with one shared weight."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (90,), generator=generator)
    target = torch.cat([torch.randn(90, 1, generator=generator), torch.nn.functional.one_hot(labels, 3).float()], dim=1)
    target[:10, 0] = float("nan")
    target[10:20, 1:] = float("nan")
    given = {key: target.nan_to_num() + torch.randn(90, 4, generator=generator) for key in DIMS}
    everyone = {key: torch.ones(90, dtype=torch.bool) for key in DIMS}
    together, score, classes = small_head(4), small_head(1), small_head(3)
    together.fit_meta(given, everyone, target)
    score.fit_meta({key: value[:, :1] for key, value in given.items()}, everyone, target[:, :1])
    classes.fit_meta({key: value[:, 1:] for key, value in given.items()}, everyone, target[:, 1:])
    torch.testing.assert_close(together.meta_weights[..., :1], score.meta_weights)
    torch.testing.assert_close(together.meta_weights[..., 1:], classes.meta_weights)
    torch.testing.assert_close(together.meta_intercept[:, 1:], classes.meta_intercept)
    assert torch.equal(classes.meta_weights[..., 0], classes.meta_weights[..., 2])
    assert not torch.allclose(score.meta_weights, classes.meta_weights[..., :1], atol=1e-2)


def test_where_the_classes_are() -> None:
    nan = float("nan")
    # A score, three classes of which the last never occurs, two classes, unlabelled in the last row.
    target = torch.tensor(
        [
            [0.4, 1, 0, 0, 0, 1],
            [-2.0, 0, 1, 0, 1, 0],
            [nan, nan, nan, nan, 1, 0],
            [1.0, 0, 1, 0, nan, nan],
        ]
    )
    assert one_hot_columns(target) == (slice(1, 4), slice(4, 6))
    assert one_hot_columns(torch.tensor([[0.5], [1.0]])) == ()
    assert one_hot_columns(torch.tensor([[0.5, 0.5], [1.0, 0.0]])) == ()  # they sum to 1 but are scores
    assert one_hot_columns(torch.full((2, 3), nan)) == ()


def test_meta_weights_are_saved_and_not_trained() -> None:
    head = small_head()
    head.fit_meta(
        {key: torch.randn(30, 1) for key in DIMS},
        {key: torch.ones(30, dtype=torch.bool) for key in DIMS},
        torch.randn(30, 1),
    )
    other = small_head()
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.meta_weights, head.meta_weights)
    assert not any("meta" in name for name, _ in head.named_parameters())


def test_no_weight_left_is_reported_as_equal_shares() -> None:
    head = small_head().eval()
    head.meta_weights.zero_()
    output = head(ragged_batch(DIMS, {"audio": [2], "text": [2], "vision": [0]}))
    assert [output.weights[key].item() for key in ("audio", "text", "vision")] == [0.5, 0.5, 0.0]


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="takes at most 8 of them, not 9: use LateFusion"):
        StackingFusion({f"m{number}": 2 for number in range(9)}, 1)
    head = small_head()
    present = {key: torch.ones(3, dtype=torch.bool) for key in DIMS}
    with pytest.raises(ValueError, match=r"predictions must have one entry for each .* not for \['text'\]"):
        head.fit_meta({"text": torch.zeros(3, 1)}, present, torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"must all be \(N, 1\)"):
        head.fit_meta({key: torch.zeros(3, 1) for key in DIMS}, present, torch.zeros(3, 2))
    with pytest.raises(ValueError, match="give the batches of the validation split"):
        head.fit_after_training([])
