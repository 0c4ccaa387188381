from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsa.corpora.cells import cell_of, label_of
from mmsa.tasks import Classification, MultiLabel, Regression

SENTIMENT = Regression("sentiment", -3, 3)
EMOTION = Classification("emotion", ("calm", "glad"))
SIGNS = MultiLabel("signs", ("smile", "frown", "nod"))


@given(st.floats(-3, 3, allow_subnormal=True))
def test_a_number_comes_back_as_it_was(value: float) -> None:
    assert label_of(SENTIMENT, cell_of(SENTIMENT, value)) == value


@given(st.lists(st.sampled_from(SIGNS.classes), unique=True).map(tuple))
def test_the_classes_that_hold_come_back_as_they_were(names: tuple[str, ...]) -> None:
    assert label_of(SIGNS, cell_of(SIGNS, names)) == names
    assert cell_of(SIGNS, names) != ""


def test_cells_are_what_the_documentation_says() -> None:
    assert cell_of(SIGNS, ("smile", "nod")) == "smile|nod"
    assert cell_of(SIGNS, ()) == "-"
    assert cell_of(EMOTION, "glad") == "glad"
    assert [cell_of(task, None) for task in (SENTIMENT, EMOTION, SIGNS)] == ["", "", ""]
    assert label_of(SIGNS, "smile | nod") == ("smile", "nod")


@pytest.mark.parametrize(
    ("task", "cell", "message"),
    [
        (SENTIMENT, "4", r"must lie in \[-3, 3\]"),
        (SENTIMENT, "high", "could not convert"),
        (EMOTION, "sad", "must be one of calm, glad, not 'sad'"),
        (SIGNS, "smile|sad", "must be among smile, frown, nod, not 'sad'"),
        (SIGNS, "smile|smile", "must name each class once"),
        (SIGNS, "smile|", "not ''"),
        (SIGNS, "-|smile", "not '-'"),
    ],
)
def test_what_is_no_label_is_refused(task: Regression | Classification | MultiLabel, cell: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_of(task, cell)
