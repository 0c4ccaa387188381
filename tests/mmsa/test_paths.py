from pathlib import Path

import pytest

from mmsa.paths import cache_dir


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [
        ("/a/b", "/x", "/a/b"),
        ("~/here", None, "/home/someone/here"),
        (None, "/x", "/x/mmsa"),
        ("", "/x", "/x/mmsa"),
        (None, "relative", "/home/someone/.cache/mmsa"),
        (None, None, "/home/someone/.cache/mmsa"),
    ],
)
def test_order_of_preference(monkeypatch, own, xdg, expected):
    monkeypatch.setenv("HOME", "/home/someone")
    for name, value in (("MMSA_CACHE", own), ("XDG_CACHE_HOME", xdg)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert cache_dir() == Path(expected)


def test_nothing_is_created(monkeypatch, tmp_path):
    monkeypatch.setenv("MMSA_CACHE", str(tmp_path / "later"))
    assert not cache_dir().exists()
