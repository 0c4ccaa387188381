from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    pass

Mmsa = Callable[..., tuple[int, str, str]]


class TestUi:
    def test_without_a_store_there_is_nothing_to_see(
        self, run_mmsa: Mmsa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        code, _, err = run_mmsa("ui")
        assert code == 2
        assert "no run yet in" in err
        assert not (tmp_path / "mlruns").exists()

    def test_it_opens_the_store_that_training_writes_to(
        self, run_mmsa: Mmsa, workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started: list[Any] = []

        def replaced(program: str, words: list[str]) -> None:
            started.append((program, words))
            raise SystemExit(0)

        monkeypatch.setattr(os, "execv", replaced)
        code, out, _ = run_mmsa("ui", "--port", "5050")
        assert code == 0
        ((program, words),) = started
        assert program == sys.executable
        assert words[words.index("--backend-store-uri") + 1] == f"sqlite:///{workspace / 'mlruns' / 'mlflow.db'}"
        assert words[words.index("--port") + 1] == "5050"
        assert "http://127.0.0.1:5050" in out

    def test_a_server_is_only_named(self, run_mmsa: Mmsa, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
        code, out, _ = run_mmsa("ui")
        assert code == 0
        assert "open http://tracking.example:5000 in a browser" in out
