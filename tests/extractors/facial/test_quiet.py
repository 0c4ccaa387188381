"""Only known chatter is kept off the error stream."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHATTER = [
    "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "W0000 00:00:1.2    4324 inference_feedback_manager.cc:114] Feedback manager requires a model",
]
NEWS = ["E0000 00:00:1.2 1 graph.cc:1] it broke", "Traceback (most recent call last):", "W is a letter"]


def run(body: str) -> str:
    code = f"import os\nfrom extractors.facial.quiet import quiet_native\n{body}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize("ending", ["", "    raise SystemExit(0)\n"])
def test_what_is_no_chatter_comes_through(ending: str) -> None:
    lines = [x for pair in zip(CHATTER, NEWS, strict=True) for x in pair]
    body = f"with quiet_native():\n    for line in {lines!r}: os.write(2, (line + '\\n').encode())\n{ending}"
    assert run(body).splitlines() == NEWS


def test_afterwards_all_is_as_before() -> None:
    body = f"with quiet_native(): pass\nos.write(2, {CHATTER[0].encode()!r})"
    assert run(body) == CHATTER[0]
