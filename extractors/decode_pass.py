"""One decode pass over a file: its packets, decoded, go to whoever wants sound and whoever wants pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from extractors.keyframes import FromKeyframe
from extractors.unseen import UnseenFrames


class Feed(Protocol):
    """What a decode pass gives decoded frames to, such as `AudioTrack` and `FrameFeed`s."""

    @property
    def end_seconds(self) -> float:
        """Where what it was given ends."""
        ...

    @property
    def done(self) -> bool:
        """Whether it wants nothing more."""
        ...

    def feed(self, frame: Any, seconds: float | None) -> None:
        """Take a decoded frame of PyAV's shown or heard from `seconds` on the media's clock (None where unknown)."""
        ...

    def lose(self, end_seconds: float | None) -> None:
        """Take note of a packet that could not be decoded and would have been heard or shown until then."""
        ...

    def finish(self) -> None:
        """Nothing more comes."""
        ...


class FrameFeed(Feed, Protocol):
    """What takes pictures, such as `FrameSampler`."""

    def wants(self, start_seconds: float, end_seconds: float) -> bool:
        """Whether a frame that is shown from here to there is looked at."""
        ...


@dataclass(frozen=True)
class DecodeReport:
    """How a decode pass went.

    Attributes:
        end_seconds: where the decoded media ended, or where it was left because nothing later was wanted.
        complete: whether the file was read to its end.
        decode_errors: packets that could not be decoded.
        broke_off: what stopped the reading before the end, or "".
        fallback: why frames were decoded on the CPU though a GPU was to do it, or "".
    """

    end_seconds: float
    complete: bool
    decode_errors: int
    broke_off: str
    fallback: str = ""


class DecodePass:
    """One run through the packets of a file, whose decoded frames go to their feeds.

    Args:
        container: PyAV's.
        feeds: by the index of the stream.
        origin: where the media's clock begins, in the container's seconds.
        sieves: take packets and pass on those worth decoding.
        shown: whether timestamps say when a picture is shown, not when it is decoded.

    Attributes:
        formats: the format of the first frame of each stream.
    """

    def __init__(
        self,
        container: Any,
        feeds: dict[int, Feed],
        origin: float,
        sieves: Sequence[FromKeyframe | UnseenFrames],
        *,
        shown: bool,
    ) -> None:
        self._container, self._feeds, self._origin, self._sieves = container, feeds, origin, sieves
        self._shown = shown
        self._errors = 0
        self._broke_off = ""
        self.formats: dict[int, str] = {}

    def run(self, streams: list[Any]) -> DecodeReport:
        """Read the packets of these streams to the end, or until no feed wants more."""
        error = ffmpeg_error()
        complete = True
        packets = self._packets(streams)
        for sieve in self._sieves:
            packets = sieve.of(packets)
        for packet in packets:
            if self._feeds[packet.stream.index].done:  # the other one needs more after the clip
                continue
            try:
                self._feed(packet.stream.index, packet.decode())
            except error:
                self._errors += 1
                self._feeds[packet.stream.index].lose(self._end(packet))
            if all(feed.done for feed in self._feeds.values()):
                complete = False
                break
        if self._broke_off:
            for stream in streams:
                with suppress(error):
                    self._feed(stream.index, stream.codec_context.decode(None))
        for feed in self._feeds.values():
            feed.finish()
        end = max((feed.end_seconds for feed in self._feeds.values()), default=0.0)
        return DecodeReport(end, complete, self._errors, self._broke_off)

    def _packets(self, streams: list[Any]) -> Iterator[Any]:
        try:
            yield from self._container.demux(streams)
        except ffmpeg_error() as problem:
            self._broke_off = str(getattr(problem, "strerror", None) or problem)

    def _feed(self, index: int, decoded: list[Any]) -> None:
        if decoded and index not in self.formats:
            self.formats[index] = decoded[0].format.name
        for frame in decoded:
            self._feeds[index].feed(frame, None if (at := self._time(frame)) is None else at - self._origin)

    def _end(self, packet: Any) -> float | None:
        if packet.pts is None or packet.time_base is None:
            return None
        return float((packet.pts + (packet.duration or 0)) * packet.time_base) - self._origin

    def _time(self, frame: Any) -> float | None:
        if self._shown:
            time: float | None = frame.time
            return time
        return None if frame.dts is None or frame.time_base is None else float(frame.dts * frame.time_base)


def ffmpeg_error() -> type[Exception]:
    """The class of what FFmpeg refuses, imported at use."""
    import av

    error: type[Exception] = av.error.FFmpegError
    return error
