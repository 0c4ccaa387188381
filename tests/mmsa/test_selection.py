from __future__ import annotations

import pytest

from mmsa.errors import UsageError
from mmsa.selection import Selection, selectable
from mmsa.tasks import Classification, MultiLabel, Regression

TASKS = (
    Regression("sentiment", -3, 3, "mosi"),
    Classification("emotion.7", ("calm", "glad")),
    MultiLabel("moods", ("a", "b")),
)
METRICS = {"sentiment.mae": 0.75, "emotion.7.macro_f1": 0.5, "emotion.7.f1_glad": 0.25}


def test_less_loss_is_better() -> None:
    selection = Selection("loss", TASKS)
    assert selection.cost(0.5, METRICS) < selection.cost(0.6, METRICS)


@pytest.mark.parametrize(
    ("measure", "better"),
    [("sentiment.mae", 0.7), ("emotion.7.macro_f1", 0.6), ("emotion.7.f1_glad", 0.3)],
)
def test_a_metric_goes_its_own_way_whatever_the_loss(measure: str, better: float) -> None:
    selection = Selection(measure, TASKS)
    assert selection.cost(9.0, {**METRICS, measure: better}) < selection.cost(0.1, METRICS)
    assert selection.cost(0.1, METRICS) == selection.cost(0.2, METRICS)


@pytest.mark.parametrize(
    ("measure", "near"),
    [
        ("sentiment.accuracy", "Allowed: .*sentiment.mae"),
        ("emotion.7.macro-f1", "Did you mean 'emotion.7.macro_f1'"),
        ("macro_f1", "Did you mean 'moods.macro_f1'"),
        ("test/sentiment.mae", "Did you mean 'sentiment.mae'"),
    ],
)
def test_what_no_task_has_is_refused(measure: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"there is no measure to select on '{measure}'.*{near}"):
        Selection(measure, TASKS)


def test_a_metric_that_the_validation_split_leaves_undefined_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"moods.wa, which is not defined on the validation split.*loss, sentiment.mae"
    ):
        Selection("moods.wa", TASKS).cost(0.5, METRICS)


def test_everything_that_is_selectable_can_be_selected() -> None:
    assert {"loss", "sentiment.corr", "emotion.7.uar", "moods.wa_a"} <= set(selectable(TASKS))
    for measure in selectable(TASKS):
        Selection(measure, TASKS)
