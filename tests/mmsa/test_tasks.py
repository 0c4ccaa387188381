from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsa.tasks import Classification, Regression, Task, task_from_dict

SENTIMENT = Regression("sentiment", -3, 3, "mosi")
EMOTION = Classification("emotion", ("calm", "glad", "cross"))


@pytest.mark.parametrize("label", [-3, 3, 0, "1.5"])
def test_regression_keeps_labels_within_its_range(label: float | str) -> None:
    assert SENTIMENT.encode(label) == float(label)


@pytest.mark.parametrize("label", [-3.01, 3.01, float("nan"), float("inf")])
def test_regression_refuses_what_lies_outside(label: float) -> None:
    with pytest.raises(ValueError, match=r"sentiment must lie in \[-3, 3\], not "):
        SENTIMENT.encode(label)


def test_classification_encodes_in_the_order_of_the_outputs() -> None:
    assert [EMOTION.encode(name) for name in ("calm", "glad", "cross")] == [0.0, 1.0, 2.0]
    assert EMOTION.output_dim == 3


def test_classification_refuses_an_unknown_class() -> None:
    with pytest.raises(ValueError, match="emotion must be one of calm, glad, cross, not 'Glad'"):
        EMOTION.encode("Glad")


names = st.text(min_size=1, max_size=8)
tasks = st.one_of(
    st.builds(
        Regression,
        names,
        st.floats(-10, 0),
        st.floats(0.5, 10),
        st.sampled_from(["mosi", "sims", "plain"]),
    ),
    st.builds(Classification, names, st.lists(names, min_size=2, max_size=5, unique=True).map(tuple)),
)


@given(task=tasks)
def test_tasks_survive_json(task: Task) -> None:
    assert task_from_dict(json.loads(json.dumps(task.to_dict()))) == task


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind is 'regression' or 'classification', not 'ranking'"):
        task_from_dict({"kind": "ranking"})
