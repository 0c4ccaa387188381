from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest

from mmsa.corpora.memory import memory_limit

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs Linux's /proc")


def limit() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_AS)


def test_what_goes_beyond_the_limit_fails_and_the_limit_goes_away() -> None:
    before = limit()
    with memory_limit(2**26):
        assert len(bytearray(2**20)) == 2**20
        with pytest.raises(MemoryError):
            bytearray(2**29)
    assert limit() == before
    assert len(bytearray(2**29)) == 2**29


def test_a_limit_within_a_limit_is_the_narrower_one() -> None:
    with memory_limit(2**30):
        outer = limit()
        with memory_limit(2**33):
            assert limit() == outer
        with memory_limit(2**26):
            assert limit()[0] < outer[0]
        assert limit() == outer


def test_the_limit_goes_away_after_an_error() -> None:
    before = limit()
    with pytest.raises(KeyError, match="x"), memory_limit(2**30):
        raise KeyError("x")
    assert limit() == before


def test_without_proc_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    before = limit()
    with memory_limit(sys.getsizeof(0)):
        assert limit() == before
