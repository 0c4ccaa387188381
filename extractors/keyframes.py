"""Leaving out pictures that nobody wants: a picture can be decoded from the keyframe before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


class FromKeyframe:
    """Holds compressed pictures back until it is known which keyframe is the last one before a time.

    Where sound is wanted from long before the picture (an encoder listens to seconds around a segment), reading begins
    there, and the pictures on the way would be decoded for nothing. In memory are at most the packets from one keyframe
    to the next.

    Args:
        stream: index of the pictures' stream.
        seconds: from when pictures are wanted, on the packets' own clock.
    """

    def __init__(self, stream: int, seconds: float) -> None:
        self._stream, self._seconds = stream, seconds
        self._held: list[Any] = []

    def of(self, packets: Iterable[Any]) -> Iterator[Any]:
        """The same packets without the pictures before that keyframe; the others of the stream a little later."""
        opened = False
        for packet in packets:
            if packet.stream.index != self._stream or opened:
                yield packet
                continue
            if packet.pts is None or packet.time_base is None or packet.pts * packet.time_base > self._seconds:
                opened = True  # the time has come, or the end of the file, or nobody knows
                yield from self._let_go()
                yield packet
                continue
            if packet.is_keyframe:
                self._held.clear()
            self._held.append(packet)
        yield from self._let_go()

    def _let_go(self) -> list[Any]:
        held, self._held = self._held, []
        return held
