from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mmsa.errors import UsageError
from mmsa.serving.settings import SETTINGS, ServeSettings, find_settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(f"MMSA_SERVE_{name.upper()}", raising=False)


def test_nothing_may_be_read_by_its_path_unless_somebody_says_so() -> None:
    assert find_settings({}) == ServeSettings()
    assert find_settings(dict.fromkeys(SETTINGS)).roots == ()


def test_what_is_given_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.setenv("MMSA_SERVE_ROOTS", os.pathsep.join([str(first), str(second)]))
    monkeypatch.setenv("MMSA_SERVE_MAX_SECONDS", "12.5")
    monkeypatch.setenv("MMSA_SERVE_MAX_ROWS", "3")
    monkeypatch.setenv("MMSA_SERVE_TRUST_EXTRACTORS", "true")
    found = find_settings({"max_rows": 5, "max_seconds": None})
    assert found == ServeSettings((first.resolve(), second.resolve()), 64.0, 12.5, 5, 2000, True)
    assert find_settings({"roots": [str(second)], "trust_extractors": False}).roots == (second.resolve(),)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("max_seconds", "ten", r"MMSA_SERVE_MAX_SECONDS must be a number above 0, not 'ten'"),
        ("max_seconds", "0", r"must be a number above 0, not '0'"),
        ("max_megabytes", "inf", r"must be a number above 0, not 'inf'"),
        ("max_rows", "1.5", r"must be a whole number above 0, not '1\.5'"),
        ("max_windows", "-1", r"must be a number above 0, not '-1'"),
        ("trust_extractors", "perhaps", r"must be true or false, not 'perhaps'"),
        ("roots", "/nonesuch", r"MMSA_SERVE_ROOTS names /nonesuch, but there is no such folder"),
    ],
)
def test_a_wrong_value_is_told_with_its_source(
    name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"MMSA_SERVE_{name.upper()}", value)
    with pytest.raises(UsageError, match=told):
        find_settings({})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"max_second": 3}, r"no setting of a served model 'max_second'\. Did you mean 'max_seconds'"),
        ({"max_rows": True}, r"model_config\['max_rows'\] must be a number above 0, not True"),
        ({"roots": [""]}, r"model_config\['roots'\] takes folders"),
    ],
)
def test_a_wrong_config_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        find_settings(given)
