"""Which packets are decoded, and that it is those that the wanted pictures need."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

from extractors.keyframes import FromKeyframe

BASE = Fraction(1, 10)


def packets(*stamps: int | None, keys: tuple[int, ...] = (0,)) -> list[Any]:
    """In the order of decoding, with these presentation times in tenths of a second."""
    pictures = SimpleNamespace(index=0)
    made = [
        SimpleNamespace(stream=pictures, pts=at, time_base=BASE, is_keyframe=i in keys) for i, at in enumerate(stamps)
    ]
    return [*made, SimpleNamespace(stream=pictures, pts=None, time_base=None, is_keyframe=False)]


def decoded(given: list[Any], seconds: float) -> list[int | None]:
    return [packet.pts for packet in FromKeyframe(0, seconds).of(given)]


def test_decoding_begins_with_the_last_keyframe_at_or_before_the_time() -> None:
    given = packets(*range(20), keys=(0, 5, 10, 15))
    assert decoded(given, 1.2) == [*range(10, 20), None]
    assert decoded(given, 1.0) == [*range(10, 20), None]
    assert decoded(given, 0.99) == [*range(5, 20), None]
    assert decoded(given, 0.0) == [*range(20), None]
    assert decoded(given, -1.0) == [*range(20), None]


def test_what_is_held_comes_out_at_the_end_of_the_file_or_of_the_reading() -> None:
    given = packets(*range(8), keys=(0, 5))
    assert decoded(given, 99.0) == [5, 6, 7, None]
    assert decoded(given[:-1], 99.0) == [5, 6, 7]


def test_other_streams_are_let_through_at_once() -> None:
    given = packets(*range(6), keys=(0, 3))
    sound = [
        SimpleNamespace(stream=SimpleNamespace(index=1), pts=at, time_base=BASE, is_keyframe=True) for at in range(6)
    ]
    mixed = [one for pair in zip(given, sound, strict=False) for one in pair]
    found = [(packet.stream.index, packet.pts) for packet in FromKeyframe(0, 0.4).of(mixed)]
    assert found == [*((1, at) for at in range(5)), (0, 3), (0, 4), (0, 5), (1, 5)]


def test_reordered_pictures_stay_together_with_their_keyframe() -> None:
    # In order of decoding; shown at 5 is a keyframe whose leading picture 4 is behind it.
    given = packets(0, 3, 1, 2, 5, 4, 8, 6, 7, keys=(0, 4))
    assert decoded(given, 0.65) == [5, 4, 8, 6, 7, None]
    assert decoded(given, 0.45) == [0, 3, 1, 2, 5, 4, 8, 6, 7, None]


@pytest.mark.parametrize("at", [0, 3])
def test_a_packet_of_unknown_time_opens_the_gate(at: int) -> None:
    stamps: list[int | None] = [0, 1, 2, 3, 4]
    stamps[at] = None
    assert decoded(packets(*stamps), 99.0)[: at + 1] == [*range(at), None]
