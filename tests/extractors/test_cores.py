"""The cores that a process may use are those that it is not held away from."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from extractors.cores import usable_cores

CODE = "from extractors.cores import usable_cores; print(usable_cores())"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be held to a core here")
def test_a_process_held_to_one_core_has_one() -> None:
    one = min(os.sched_getaffinity(0))
    hold = f"import os; os.sched_setaffinity(0, {{{one}}}); {CODE}"
    assert subprocess.run([sys.executable, "-c", hold], capture_output=True, text=True, check=True).stdout == "1\n"


def test_where_nothing_can_be_asked_it_is_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert usable_cores() == 7
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert usable_cores() == 1
