"""How many of the machine's cores this process may use."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Those that it is not held away from (by `taskset`, a batch system or `os.sched_setaffinity`); at least one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
