from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from extractors import ToolError
from extractors.speech import compiled

FROM_SCRATCH = """
import sys
from extractors.speech.compiled import load_librosa
import numpy as np
print(float(load_librosa().feature.zero_crossing_rate(np.tile([1.0, -1.0], 2048), center=False).mean()))
"""


def test_two_processes_may_compile_at_once(tmp_path: Path) -> None:
    """On a new installation both find no compiled functions; a third one reads what they left.

    The signal changes sign at every sample; librosa does not count the first sample of a 2048-sample frame.
    """
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", FROM_SCRATCH]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    together = [start(), start()]
    answers = [process.communicate(timeout=300)[0] for process in together]
    third = start()
    answers.append(third.communicate(timeout=300)[0])
    assert [process.returncode for process in (*together, third)] == [0, 0, 0]
    assert [float(answer) for answer in answers] == pytest.approx([2047 / 2048] * 3)
    assert list(tmp_path.rglob("*.nbi")), "numba kept nothing here: the test would prove nothing"


def test_waits_for_the_process_that_compiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiled, "lock_path", lambda: tmp_path / "lock")
    compiled.load_librosa.cache_clear()
    done = threading.Event()
    waiter = threading.Thread(target=lambda: (compiled.load_librosa(), done.set()))
    with FileLock(tmp_path / "lock"):
        waiter.start()
        assert not done.wait(0.5)
    assert done.wait(60)
    waiter.join()


def test_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiled, "lock_path", lambda: tmp_path / "lock")
    monkeypatch.setattr(compiled, "WAIT_SECONDS", 0.1)
    compiled.load_librosa.cache_clear()
    with FileLock(tmp_path / "lock"), pytest.raises(ToolError, match=r"end it, or delete .*lock if there is none"):
        compiled.load_librosa()
