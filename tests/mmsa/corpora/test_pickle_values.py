from __future__ import annotations

import pickle
import re

import numpy as np
import pytest

from mmsa.corpora.pickle_values import (
    DTYPE,
    BrokenError,
    ForbiddenError,
    array_from_bytes,
    checked_shape,
    dtype_from_state,
    fetched_numbers,
    shown,
)


def test_an_array_is_a_view_of_its_bytes_that_cannot_be_changed() -> None:
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    found = array_from_bytes(array.tobytes(), array.dtype, (2, 3), "C")
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not found.flags.writeable
    assert array_from_bytes(array.tobytes(), array.dtype, (3, 2), "F").tolist() == [[0, 3], [1, 4], [2, 5]]
    assert array_from_bytes(b"", array.dtype, (0, 5), "C").shape == (0, 5)


@pytest.mark.parametrize(
    ("dtype", "shape", "error"),
    [
        ("<i4", (2,), BrokenError),
        ("<i4", (-1,), BrokenError),
        ("<i4", (True, 1), BrokenError),
        ("<i4", (2**50,), BrokenError),
        ("<i4", (1,) * 33, BrokenError),
        ("O", (1,), ForbiddenError),
    ],
)
def test_shapes_and_types_that_do_not_fit_are_refused(
    dtype: str, shape: tuple[int, ...], error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"array|addresses"):
        array_from_bytes(bytes(4), np.dtype(dtype), shape, "C")


def test_items_without_bytes_are_refused() -> None:
    with pytest.raises(BrokenError, match="whose items have no bytes"):
        array_from_bytes(b"", np.dtype("S0"), (3,), "C")


def test_only_plain_types_have_a_state() -> None:
    assert dtype_from_state("f4", (3, ">", None, None, None, -1, -1, 0)) == np.dtype(">f4")
    with pytest.raises(ForbiddenError, match="structured"):
        dtype_from_state("V8", (3, "|", None, ("a",), {"a": ()}, 8, 1, 27))
    accepted = ["f4", "<f8", "i1", "U12", "S3", "O", "O8", "b1", "c16"]
    assert [code for code in accepted if not DTYPE.fullmatch(code)] == []
    assert [code for code in ("V8", "M8", "f4,i4", "(2,)f4", "i3", "") if DTYPE.fullmatch(code)] == []


def test_shapes_are_tuples_of_counts() -> None:
    assert checked_shape((2, 0, 3)) == (2, 0, 3)
    with pytest.raises(BrokenError, match=re.escape("an array of shape (2.0,)")):
        checked_shape((2.0,))


def test_what_a_file_says_is_fit_for_a_terminal() -> None:
    assert shown("a\x1b[31m\né") == "a\\x1b[31m\\n\\xe9"
    assert len(shown("x" * 999)) == 200


@pytest.mark.parametrize("protocol", [2, 4])
def test_numbers_of_values_that_are_fetched_again(protocol: int) -> None:
    """A pickle remembers each list; only the one that occurs twice is fetched."""
    shared = ["shared"]
    found = fetched_numbers(pickle.dumps([["a"], shared, ["b"], shared], protocol))
    assert len(found) == 1
    assert fetched_numbers(pickle.dumps([["a"], ["b"]], protocol)) == frozenset()
