"""The errors are kinds that callers already catch."""

from __future__ import annotations

import extractors


def test_kinds() -> None:
    assert issubclass(extractors.MediaError, ValueError)
    assert issubclass(extractors.ToolError, RuntimeError)
