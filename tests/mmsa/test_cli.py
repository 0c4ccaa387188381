from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import typer

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


@pytest.mark.parametrize("inside", [True, False])
def test_an_interruption_ends_with_130(run_mmsa: Mmsa, monkeypatch: pytest.MonkeyPatch, inside: bool) -> None:
    """Within a command, typer makes an exit of it."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    app = typer.Typer()
    app.command()(interrupted)
    monkeypatch.setattr(mmsa.cli, "app", app if inside else interrupted)
    code, _, err = run_mmsa()
    assert code == 130
    assert "Interrupted. What was finished is kept." in err
