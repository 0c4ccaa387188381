"""Settings of all tests."""

from __future__ import annotations

import os

import pytest

# Test runners already use every core; threads inside each of them would fight over the same ones.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tables are as wide as the terminal; what a test reads in them must not depend on where it runs.
os.environ["COLUMNS"] = "200"


def pytest_configure(config: pytest.Config) -> None:
    """Compile librosa's functions before test workers start: two of them at once would break numba's cache."""
    if not hasattr(config, "workerinput"):
        from extractors.speech.compiled import load_librosa

        load_librosa()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that no worker sits idle while another is on the last long one."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
