"""What extractors share."""

from __future__ import annotations

import pytest

from extractors.base import check_range, make_spec, tool_version


def test_tool_version_joins_the_tool_and_our_definition() -> None:
    import librosa

    assert tool_version("librosa", 3) == f"{librosa.__version__}+3"
    assert make_spec("a.b", "librosa", 3, {"x": 1}).version == f"{librosa.__version__}+3"


@pytest.mark.parametrize("value", [0.5, 3, True, "2", None, float("nan")])
def test_check_range_refuses(value: object) -> None:
    with pytest.raises(ValueError, match="width must be a number from 1 to 2, not"):
        check_range("width", value, 1, 2)  # type: ignore[arg-type]


def test_check_range_takes_the_ends() -> None:
    check_range("width", 1, 1, 2)
    check_range("width", 2.0, 1, 2)
