from __future__ import annotations

from mmsa.errors import UsageError, unknown


def test_unknown_names_the_nearest_and_all_in_order() -> None:
    error = unknown("task", "sentimant", ["sentiment", "emotion"])
    assert str(error) == "there is no task 'sentimant'. Did you mean 'sentiment'? Allowed: emotion, sentiment"


def test_unknown_guesses_nothing_when_nothing_is_near() -> None:
    assert str(unknown("task", "xyz", ["emotion"])) == "there is no task 'xyz'. Allowed: emotion"


def test_usage_error_is_a_value_error() -> None:
    """So that callers of the library can catch what Python users expect for a wrong argument."""
    assert isinstance(unknown("task", "x", []), UsageError)
    assert issubclass(UsageError, ValueError)
