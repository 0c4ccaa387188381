from __future__ import annotations

import json
import os
import shutil
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
    kept = sorted(map(str, tmp_path.rglob("*.nbi")))
    assert kept, "numba kept nothing here: the test would prove nothing"
    (note,) = tmp_path.glob("mmsa-*.json")
    assert set(kept) <= set(json.loads(note.read_text())["kept"])


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


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The note of a load that had the lock."""
    monkeypatch.setattr(compiled, "lock_path", lambda: tmp_path / "mine.lock")
    assert not compiled._is_compiled()
    compiled.load_librosa.cache_clear()
    compiled.load_librosa()
    compiled.load_librosa.cache_clear()
    return tmp_path / "mine.json"


def test_nobody_waits_once_all_is_compiled(noted: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiled, "WAIT_SECONDS", 0.1)
    with FileLock(tmp_path / "mine.lock"):
        assert compiled.load_librosa().__name__ == "librosa"


def test_one_compiles_again_for_other_settings(noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled._is_compiled()
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    assert not compiled._is_compiled()


def test_one_compiles_again_after_an_update(noted: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = compiled._source()
    assert source is not None
    copy = tmp_path / "librosa"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(compiled, "_source", lambda: copy)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(source))
    compiled._note_compiled()
    assert compiled._is_compiled()
    os.utime(copy / "core" / "pitch.py", (1, 1))
    assert not compiled._is_compiled()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"case": "x", "kept": ["/"]}', '{"case": 1, "kept": 2}'])
def test_a_note_that_says_something_else_is_none(noted: Path, text: str) -> None:
    noted.write_text(text)
    assert not compiled._is_compiled()


def test_a_note_of_files_that_are_gone_is_none(noted: Path, tmp_path: Path) -> None:
    said = json.loads(noted.read_text())
    noted.write_text(json.dumps({**said, "kept": [*said["kept"], str(tmp_path / "gone.nbi")]}))
    assert not compiled._is_compiled()
    noted.write_text(json.dumps({**said, "kept": []}))
    assert not compiled._is_compiled()
