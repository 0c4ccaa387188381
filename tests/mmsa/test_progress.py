from __future__ import annotations

from collections.abc import Iterator

import pytest

from mmsa.progress import track


def test_items_pass_through_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = []

    def items() -> Iterator[int]:
        for i in range(3):
            drawn.append(i)
            yield i

    seen = []
    for item in track(items(), "Counting", 3):
        seen.append(item)
        assert drawn == seen
    assert seen == [0, 1, 2]
    captured = capsys.readouterr()
    assert captured.out == ""  # standard output belongs to results
    assert captured.err == "Counting (3) …\n"


def test_an_error_of_the_items_comes_through() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise RuntimeError("broken item")

    tracked = track(items(), "Counting", 2)
    assert next(tracked) == 1
    with pytest.raises(RuntimeError, match="broken item"):
        next(tracked)
