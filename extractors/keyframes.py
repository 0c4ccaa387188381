"""Leaving out pictures that nobody wants: a picture can be decoded from the keyframe before it."""

from __future__ import annotations

from typing import Any


class FromKeyframe:
    """Holds compressed pictures back until it is known which keyframe is the last one before a time.

    Where sound is wanted from long before the picture (an encoder listens to seconds around a segment), reading begins
    there, and the pictures on the way would be decoded for nothing. In memory are at most the packets from one keyframe
    to the next.

    Args:
        seconds: from when pictures are wanted, on the packets' own clock.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._held: list[Any] = []
        self._open = False

    def take(self, packet: Any) -> list[Any]:
        """Which packets to decode now, in order: none while a later keyframe may still make them needless."""
        if self._open:
            return [packet]
        if packet.pts is None or packet.time_base is None or packet.pts * packet.time_base > self._seconds:
            self._open = True  # the time has come, or the end of the file, or nobody knows
            held, self._held = self._held, []
            return [*held, packet]
        if packet.is_keyframe:
            self._held.clear()
        self._held.append(packet)
        return []

    def rest(self) -> list[Any]:
        """What is still held where the reading broke off."""
        held, self._held = self._held, []
        return held
