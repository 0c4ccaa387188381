"""Sparing the decoder pictures that nobody looks at."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# Whose decoders know from the bitstream itself, picture by picture, whether others are predicted from it.
_CODECS = {"h264", "hevc", "mpeg4"}
# None of them shows a picture more than 16 places away from where it is decoded.
_REORDERED = 16
# Where pictures are rare, there is little to spare, and holding some back would be a matter of long.
_RAREST_PER_SECOND = 5.0
# If the picture ends before the sound does, its last packets must not wait for the end of the file.
_LONGEST_SECONDS = 5.0

Wants = Callable[[float, float], bool]


class UnseenFrames:
    """Tells the decoder, packet by packet, when a picture may be left out.

    Sampling ten pictures a second of thirty looks at every third. Of the others, those that no picture is predicted
    from need not be decoded (in most files they are half of all); what is decoded is the same, bit for bit. A
    picture is shown until the next one, so packets are held back until that is known, and decoded as usual where it
    is not: at the end of the stream, or where timestamps or durations are missing.

    Args:
        stream: PyAV's video stream.
        wants: whether a picture is looked at that is shown from one second to another, on the media's clock.
        origin: second of the stream's clock at which the media's begins.
    """

    def __init__(self, stream: Any, wants: Wants, origin: float) -> None:
        self._context, self._index = stream.codec_context, stream.index
        self._wants, self._origin = wants, origin
        self._ticks: dict[int, tuple[int, int]] = {}
        self._pending: deque[Any] = deque()
        self._shown: list[int] = []  # of the packets that wait and of the last that were released, in order of time
        self._released: deque[int] = deque()

    @staticmethod
    def can(stream: Any) -> bool:
        """Whether the stream is one of which pictures can be spared."""
        rate = stream.average_rate
        return stream.codec_context.name in _CODECS and rate is not None and rate >= _RAREST_PER_SECOND

    def of(self, packets: Iterable[Any]) -> Iterator[Any]:
        """The same packets, those of this stream a little later; each is to be decoded before the next is asked for."""
        for packet in packets:
            if packet.stream.index != self._index:
                while self._pending and self._is_behind(packet):
                    yield self._release()
                yield packet
                continue
            if packet.pts is not None:
                insort(self._shown, packet.pts)
            self._pending.append(packet)
            ends = packet.size == 0  # the last one, which empties the decoder
            while self._pending and (ends or len(self._pending) > _REORDERED):
                yield self._release()
        while self._pending:
            yield self._release()

    def _is_behind(self, packet: Any) -> bool:
        """Whether another stream is so far ahead that the first packet has waited for long enough."""
        here, there = (self._seconds(one, one.dts) for one in (self._pending[0], packet))
        return here is not None and there is not None and there - here > _LONGEST_SECONDS

    def _release(self) -> Any:
        packet = self._pending.popleft()
        self._context.skip_frame = "NONREF" if self._is_unseen(packet) else "DEFAULT"
        if packet.pts is not None:
            self._released.append(packet.pts)
            if len(self._released) > 2 * _REORDERED:
                self._shown.remove(self._released.popleft())
        return packet

    def _is_unseen(self, packet: Any) -> bool:
        if packet.pts is None or not packet.duration:
            return False
        after = bisect_right(self._shown, packet.pts)
        if after == len(self._shown):
            return False
        start, end = (self._seconds(packet, pts) for pts in (packet.pts, self._shown[after]))
        return start is not None and end is not None and not self._wants(start - self._origin, end - self._origin)

    def _seconds(self, packet: Any, stamp: int | None) -> float | None:
        """Of a packet's timestamp; a stream's unit is asked for once, as PyAV makes a new fraction each time."""
        if stamp is None:
            return None
        index = packet.stream.index
        if index not in self._ticks:
            base = packet.time_base
            if base is None:
                return None
            self._ticks[index] = base.numerator, base.denominator
        numerator, denominator = self._ticks[index]
        return stamp * numerator / denominator
