from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

import mmsa.cli
import mmsa.doctor

if TYPE_CHECKING:
    pass

Mmsa = Callable[..., tuple[int, str, str]]


def test_help_lists_the_commands(run_mmsa: Mmsa) -> None:
    code, out, _ = run_mmsa("--help")
    assert code == 0
    for command in ("train", "score", "heads", "ui", "doctor"):
        assert f" {command} " in out


def test_an_interruption_ends_with_130(run_mmsa: Mmsa, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mmsa.cli, "app", interrupted)
    code, _, err = run_mmsa()
    assert code == 130
    assert "Interrupted" in err
