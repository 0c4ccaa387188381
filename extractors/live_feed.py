"""Reading a live source on a thread that nothing holds up: decoding, pacing, and reaching it again when it breaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from extractors.decode_pass import DecodeReport, Feed
from extractors.errors import MediaError
from extractors.live_buffer import LiveBuffer
from extractors.live_source import LiveSource
from extractors.media import MediaInfo, is_cover, pixel_aspect, stream_info

FrameKind = Literal["audio", "video"]

# A connection that held for this long counts as a new beginning: the tries to reach the source again start over.
_HELD_SECONDS = 5.0
# Timestamps that go back, or on by more than this at once, begin a new run.
_BACK_SECONDS, _JUMP_SECONDS = 1.0, 10.0
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 8.0
_MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class _Connection:
    """An open source; from run `first_run` on until the next one."""

    first_run: int
    container: Any
    streams: dict[int, FrameKind]
    info: MediaInfo
    aspect: float


class LiveFeed:
    """Decodes a source into a `LiveBuffer` as it comes.

    A file is played at its own speed; cameras and streams give the pace themselves. Where decoding pictures falls
    behind, those up to the next keyframe are left out.

    Args:
        source: opened at once, so that what cannot be opened is told here.
        wanted: which kinds of frames.
        max_latency_seconds: see `LiveBuffer`.
        seconds: stop after this much; None goes on until the source ends.
        tries: how often in a row to reach a broken stream or camera again, after 0.5 s, 1 s, 2 s and so on.

    Attributes:
        buffer: where the frames are.
        reconnects: how often the source was reached again.

    Raises:
        MediaError: it cannot be opened, or holds none of the wanted kinds.
    """

    def __init__(
        self,
        source: LiveSource,
        wanted: Collection[FrameKind],
        *,
        max_latency_seconds: float,
        seconds: float | None = None,
        tries: int = 5,
    ) -> None:
        self.source, self._wanted, self._tries = source, frozenset(wanted), tries
        self._limit_seconds, self._max_latency = seconds, max_latency_seconds
        self.buffer = LiveBuffer(max_latency_seconds, time.monotonic)
        self.reconnects = 0
        self.decode_errors = 0
        self.left_out = 0
        self._connections = [self._connect(0)]
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._offset: float | None = None
        self._origin: float | None = None
        self._shift = self._newest = 0.0
        self._last: dict[FrameKind, float] = {}
        self._to_keyframe = False

    def start(self) -> None:
        """Begin to read; time 0 of a file is now."""
        self._thread = threading.Thread(target=self._work, name="extractors-live", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading; safe to call twice."""
        self._stop.set()
        self.buffer.clear()
        if self._thread is not None:
            self._thread.join(2.0)  # a silent stream is waited for by FFmpeg, which its own limit ends
        elif self._connections:
            self._connections[-1].container.close()

    def latency_seconds(self, seconds: float) -> float:
        """How long ago the instant `seconds` of the live clock reached this machine.

        The clocks are compared at the frame that came with the least delay.
        """
        return time.monotonic() - seconds - (self._offset if self._offset is not None else time.monotonic())

    def media(self, run: int) -> LiveMedia:
        """What a decode pass reads the frames of one run from."""
        known = [one for one in self._connections if one.first_run <= run]
        return LiveMedia(self, known[-1].info, known[-1].aspect, run)

    def _connect(self, first_run: int) -> _Connection:
        container = self.source.open()
        best = {"audio": container.streams.best("audio"), "video": container.streams.best("video")}
        if is_cover(best["video"]):
            best["video"] = None
        info = MediaInfo(None, stream_info(best["audio"]), stream_info(best["video"]))
        streams: dict[int, FrameKind] = {}
        for kind in self._wanted:
            stream = best[kind]
            if stream is not None and stream.codec_context is not None:
                stream.thread_type = "AUTO" if self.source.kind == "file" else "SLICE"  # frame threads add delay
                streams[stream.index] = kind
        if not streams:
            container.close()
            raise MediaError(
                f"{self.source.label}: holds nothing that is wanted here ({', '.join(sorted(self._wanted))}): give a "
                "source with it"
            )
        return _Connection(first_run, container, streams, info, pixel_aspect(best["video"]))

    def _work(self) -> None:
        tries = 0
        try:
            while True:
                begun, reason = self._newest, self._read(self._connections[-1])
                self._connections[-1].container.close()
                if reason is None:
                    break
                tries = self._reach_again(0 if self._newest - begun >= _HELD_SECONDS else tries, reason)
            self.buffer.end()
        except _StoppedError:
            self.buffer.end()
        except BaseException as error:  # noqa: BLE001 - raised where the frames are taken
            self.buffer.end(error)

    def _reach_again(self, tries: int, reason: str) -> int:
        """Wait and open the source again; returns how many tries in a row there were."""
        while tries < self._tries:
            self._stop.wait(min(_FIRST_WAIT_SECONDS * 2**tries, _LONGEST_WAIT_SECONDS))
            if self._stop.is_set():
                raise _StoppedError
            tries += 1
            try:
                connection = self._connect(0)
            except MediaError as error:
                reason = str(error)
                continue
            self._begin_run()
            run = self.buffer.begin_run()
            self._connections = [*self._connections[-7:], replace(connection, first_run=run)]
            self.reconnects += 1
            return tries
        raise MediaError(
            f"{self.source.label}: broke off after {self._newest:.1f} s ({reason}), and could not be reached again in "
            f"{self._tries} tries: check the source and start again"
        )

    def _begin_run(self) -> None:
        """What comes next has a clock of its own, whose first instant is now."""
        now = self._newest if self._offset is None else time.monotonic() - self._offset
        self._origin, self._shift = None, max(now, self._newest)
        self._last.clear()

    def _read(self, connection: _Connection) -> str | None:
        """Read until the end; returns why the source broke, or None where this is its proper end."""
        import av

        streams = [connection.container.streams[index] for index in connection.streams]
        if self._origin is None and connection.container.start_time is not None and not self._shift:
            self._origin = connection.container.start_time / _MICROSECONDS
        try:
            for packet in connection.container.demux(streams):
                kind = connection.streams[packet.stream_index]
                if self._stop.is_set():
                    return None
                if kind == "video" and self._leaves_out(packet):
                    continue
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    self.decode_errors += 1
                    continue
                if not all(self._pass_on(kind, frame) for frame in frames):
                    return None
        except av.error.FFmpegError as problem:
            return str(getattr(problem, "strerror", None) or problem)
        return "it ended" if self.source.goes_on else None

    def _leaves_out(self, packet: Any) -> bool:
        """Whether a picture is so late that it is not even decoded; then all up to the next keyframe are."""
        if packet.pts is None or packet.time_base is None or self._origin is None:
            return False
        late = self.latency_seconds(float(packet.pts * packet.time_base) - self._origin + self._shift)
        if packet.is_keyframe:
            self._to_keyframe = False
        elif late > self._max_latency:
            self._to_keyframe = True
        self.left_out += self._to_keyframe
        return self._to_keyframe

    def _pass_on(self, kind: FrameKind, frame: Any) -> bool:
        """Put a frame where the reader finds it, at its time; False where reading is over."""
        stamp = self._place(kind, frame)
        seconds = self._newest if stamp is None else stamp
        if self._limit_seconds is not None and seconds >= self._limit_seconds:
            return False
        if self.source.kind == "file":
            if self._offset is None:
                self._offset = time.monotonic()
            if self._stop.wait(max(0.0, self._offset + seconds + _lasts(kind, frame) - time.monotonic())):
                return False
        else:
            arrived = time.monotonic() - seconds - _lasts(kind, frame)
            self._offset = arrived if self._offset is None else min(self._offset, arrived)
        self._newest = max(self._newest, seconds)
        self.buffer.put(kind, frame, seconds, stamp)
        return True

    def _place(self, kind: FrameKind, frame: Any) -> float | None:
        """A frame's time on the live clock; None where it has none."""
        if frame.pts is None or frame.time_base is None:
            return None
        raw = float(frame.pts * frame.time_base)
        if self._origin is None:
            self._origin = raw
        seconds = raw - self._origin + self._shift
        back = seconds < self._last.get(kind, 0.0) - _BACK_SECONDS
        if self.source.goes_on and (back or seconds > self._newest + _JUMP_SECONDS):
            self._begin_run()
            self.buffer.begin_run()
            self._origin, seconds = raw, self._shift
        self._last[kind] = seconds
        return seconds


def _lasts(kind: FrameKind, frame: Any) -> float:
    """Sound is there when its last sample is, a picture when it is shown."""
    return float(frame.samples / frame.sample_rate) if kind == "audio" else 0.0


class _StoppedError(Exception):
    """Nobody wants more."""


class LiveMedia:
    """The frames of one run, for a decode pass; see `extractors.media.Media`.

    Args:
        feed: where the frames come from.
        info: what the source announced.
        aspect: of a pixel.
        run: which frames.
    """

    def __init__(self, feed: LiveFeed, info: MediaInfo, aspect: float, run: int) -> None:
        self._feed, self._run = feed, run
        self.path = Path(feed.source.label)
        self.info = info
        self.latest_seconds = float("inf")
        self.pixel_aspect = aspect

    def measure_seconds(self) -> float:
        """Nobody knows."""
        return 0.0

    @property
    def over(self) -> bool:
        """Whether nothing follows, in this run or another."""
        return self._feed.buffer.over

    def decode(
        self,
        audio: Feed | None,
        frames: Feed | None,
        *,
        start_seconds: float = 0.0,
        pictures_from: float | None = None,
    ) -> DecodeReport:
        """Feed the run's frames as they come, until it ends."""
        feeds: dict[str, Feed | None] = {"audio": audio, "video": frames}
        while (one := self._feed.buffer.take(self._run)) is not None:
            feed = feeds[one.kind]
            if feed is not None:
                feed.feed(one.frame, one.stamp)
        ends = [0.0]
        for feed in feeds.values():
            if feed is not None:
                feed.finish()
                ends.append(feed.end_seconds)
        return DecodeReport(max(ends), True, self._feed.decode_errors, "")
