"""Settings of all tests."""

from __future__ import annotations

import os

# Test runners already use every core; threads inside each of them would fight over the same ones.
os.environ.setdefault("OMP_NUM_THREADS", "1")
