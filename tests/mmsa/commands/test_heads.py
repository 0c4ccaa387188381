from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from fusion import describe, head_classes

if TYPE_CHECKING:
    pass

Mmsa = Callable[..., tuple[int, str, str]]


def test_heads_are_those_of_the_library(run_mmsa: Mmsa) -> None:
    code, out, _ = run_mmsa("heads", "--json")
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [asdict(describe(name)) for name in head_classes()]
