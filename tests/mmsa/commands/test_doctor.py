from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import mmsa.cli
import mmsa.doctor
from mmsa.doctor import Finding

if TYPE_CHECKING:
    pass

Mmsa = Callable[..., tuple[int, str, str]]


class TestDoctor:
    @pytest.mark.parametrize(("status", "code"), [("ok", 0), ("limited", 0), ("broken", 1)])
    def test_only_what_is_broken_fails(
        self, run_mmsa: Mmsa, monkeypatch: pytest.MonkeyPatch, status: Any, code: int
    ) -> None:
        finding = Finding("media", status, "found [this]", "do that")
        monkeypatch.setattr(mmsa.doctor, "CHECKS", {"media": lambda: finding})
        found, out, _ = run_mmsa("doctor")
        assert found == code
        assert status in out
        assert "found [this]" in out
        assert ("→ do that" in out) == (status != "ok")
        found, out, _ = run_mmsa("doctor", "--json")
        assert found == code
        assert json.loads(out) == {"name": "media", "status": status, "found": "found [this]", "advice": "do that"}
