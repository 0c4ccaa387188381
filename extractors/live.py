"""`watch`: windows of something that happens now, with a bounded delay."""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from extractors.base import AudioExtractor, Extractor, TextExtractor, VisionExtractor
from extractors.errors import MediaError
from extractors.extraction import Extraction
from extractors.live_feed import FrameKind, LiveFeed, LiveMedia
from extractors.live_source import LiveSource
from extractors.replayed import rolling
from extractors.windows import RollingPass, Sliding, Window, WindowSink

_WAITING_WINDOWS = 8


@dataclass(frozen=True)
class LiveCounts:
    """What was left out so far, and why nothing lags.

    Attributes:
        windows: how many were given.
        dropped_windows: how many before the last one given were not: too late, or with a gap in them.
        dropped_frames: pictures that were dropped before anybody looked at them.
        skipped_seconds: sound and picture that were skipped at once to catch up.
        decode_errors: packets that could not be decoded.
        reconnects: how often the source broke and was reached again.
    """

    windows: int = 0
    dropped_windows: int = 0
    dropped_frames: int = 0
    skipped_seconds: float = 0.0
    decode_errors: int = 0
    reconnects: int = 0


class LiveReader(WindowSink):
    """Iterates over windows while they happen; `watch` makes one.

    Three threads work beside each other: one decodes, one extracts, and the caller's takes the windows. None waits for
    a slower one behind it. Leaving the loop early, or `close`, ends them.

    Attributes:
        source: what is watched.
        max_latency_seconds: as given.
    """

    def __init__(
        self,
        source: LiveSource,
        extractors: Mapping[str, Extractor],
        windows: Sliding,
        *,
        max_latency_seconds: float,
        seconds: float | None,
        tries: int,
    ) -> None:
        super().__init__({key: rolling(one) for key, one in extractors.items()}, windows, None)
        self.source, self.max_latency_seconds = source, max_latency_seconds
        self._windows = windows
        self._streaming = {key: one for key, one in self.extractors.items() if not isinstance(one, TextExtractor)}
        if not self._streaming:
            raise MediaError(f"{source.label}: live media has sound and picture, but only words are to be read")
        watching = [one for one in self._streaming.values() if isinstance(one, VisionExtractor)]
        wanted: set[FrameKind] = {"video"} if watching else set()
        if len(watching) < len(self._streaming) or any(one.listens_at_hz is not None for one in watching):
            wanted.add("audio")
        self._feed = LiveFeed(source, wanted, max_latency_seconds=max_latency_seconds, seconds=seconds, tries=tries)
        self._ready: deque[Window] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._given = self._dropped = self._next = 0

    def __iter__(self) -> Iterator[Window]:
        if self._thread is not None:
            raise RuntimeError("live windows are read once: call watch again")
        self._thread = threading.Thread(target=self._work, name="extractors-live-windows", daemon=True)
        self._feed.start()
        self._thread.start()
        try:
            while (window := self._take()) is not None:
                yield window
        finally:
            self.close()

    def close(self) -> None:
        """Stop; safe to call twice."""
        self._feed.close()
        if self._thread is not None:
            self._thread.join(2.0)

    def latency_seconds(self, window: Window) -> float:
        """How long ago the end of a window reached this machine."""
        return self._feed.latency_seconds(window.end_seconds)

    @property
    def counts(self) -> LiveCounts:
        """What was given and left out up to the last window given."""
        buffer = self._feed.buffer
        return LiveCounts(
            windows=self._given,
            dropped_windows=self._dropped,
            dropped_frames=buffer.dropped_frames + self._feed.left_out,
            skipped_seconds=buffer.skipped_seconds,
            decode_errors=self._feed.decode_errors,
            reconnects=self._feed.reconnects,
        )

    def hand_over(self, window: Window) -> None:
        """Pass a window on; the oldest that waits makes room."""
        with self._changed:
            self._ready.append(window)
            if len(self._ready) > _WAITING_WINDOWS:
                self._ready.popleft()
            self._changed.notify()

    def others(self, span: tuple[float, float]) -> Extraction | None:
        """None: every extractor was made to roll."""
        return None

    def comes_too_late(self, end_seconds: float) -> bool:
        """Whether a window that ends there is late and the next one is about to be there."""
        late = self._feed.latency_seconds(end_seconds) > self.max_latency_seconds
        return late and self._feed.buffer.backlog_seconds >= self._windows.hop_seconds

    def _take(self) -> Window | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._finished)
            while len(self._ready) > 1 and self.latency_seconds(self._ready[0]) > self.max_latency_seconds:
                self._ready.popleft()
            if self._ready:
                window = self._ready.popleft()
                self._given += 1
                self._dropped += window.number - self._next
                self._next = window.number + 1
                return window
            if self._error is not None:
                raise self._error
            return None

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            while (first := self._feed.buffer.peek()) is not None:
                media = self._feed.media(first.run)
                found = _LivePass(media, self._streaming, self, 0.0 if first.run == 0 else first.seconds)
                try:
                    found.read()
                finally:
                    found.close()
        except BaseException as problem:  # noqa: BLE001 - raised again where the caller is
            error = problem
        with self._changed:
            self._error, self._finished = error, True
            self._changed.notify()


class _LivePass(RollingPass):
    """One run of frames: hands over each window when it is complete, unless it comes too late."""

    block_seconds = 0.1
    interleaving_seconds = 1.0

    def __init__(
        self, media: LiveMedia, extractors: Mapping[str, Extractor], reader: LiveReader, first_seconds: float
    ) -> None:
        super().__init__(media, extractors, reader)
        self._live, self._live_reader = media, reader
        self._start = first_seconds
        windows = reader._windows
        # After a gap, nothing is known of what came before it: the first window begins behind all that needs it.
        clear = first_seconds + max(map(self._before, extractors)) if first_seconds > 0 else 0.0
        first = math.ceil(clear / windows.hop_seconds)
        spans = ((number, number * windows.hop_seconds) for number in itertools.count(first))
        self._waiting = ((number, (start, start + windows.window_seconds)) for number, start in spans)
        self._current = next(self._waiting)

    def read(self) -> None:
        """Read the run; where the source has ended with it, hand over what the end completes."""
        self._prepare()
        self._latest = dict.fromkeys(self._clocks, 0.0)
        end = self._live.decode(self._audio, self._frames).end_seconds
        if self._live.over:
            self._live_reader.ended(end, ())
            self._give_rest(end)
            self._live_reader.ended(end, (*self._told(), *self._streams_told()))

    def _give(self, media_end: float) -> None:
        assert self._current is not None
        if math.isinf(media_end) and self._live_reader.comes_too_late(self._current[1][1]):
            self._advance()
        else:
            super()._give(media_end)


def warm_up(extractors: Mapping[str, Extractor]) -> Extraction:
    """Let every extractor do its work once on noise, so that what it loads and compiles is there before time counts.

    Args:
        extractors: extractor by modality.

    Returns:
        What they made of it, which means nothing, but has the form of an extraction.
    """
    noise = np.random.default_rng(0)
    sequences = {}
    for key, extractor in extractors.items():
        sequences[key] = extractor.empty()
        if isinstance(extractor, AudioExtractor):
            samples = noise.normal(0.0, 0.1, extractor.sample_rate_hz).astype(np.float32)
            sequences[key] = extractor.extract_samples(samples)
        elif isinstance(extractor, VisionExtractor):
            stream = extractor.stream()
            try:
                stream.push(noise.integers(0, 255, (240, 320, 3), np.uint8), [0])
                sequences[key] = stream.finish()
            finally:
                stream.close()
    return Extraction(sequences, {key: "warming up" for key, one in sequences.items() if not len(one)}, 1.0)


def watch(
    source: LiveSource,
    extractors: Mapping[str, Extractor],
    windows: Sliding,
    *,
    max_latency_seconds: float = 2.0,
    seconds: float | None = None,
    tries: int = 5,
) -> LiveReader:
    """Extract windows of a camera, a stream, or a file played at its own speed, while they happen.

    Each window has what `extract_windows` gives for it on the recorded media, as long as everything keeps up. Where it
    does not, the oldest is dropped: pictures first (the one before stands for them), then whole windows, then, when
    reading the sound alone is too slow, everything up to now.

    Args:
        source: what to watch.
        extractors: extractor by modality; those that cannot roll get each window replayed.
        windows: length and distance; numbers go on over gaps.
        max_latency_seconds: how late a window may be before a newer one is preferred.
        seconds: stop after this much; None goes on until the source ends.
        tries: how often in a row to reach a broken camera or stream again.

    Raises:
        MediaError: the source cannot be opened, or holds nothing for these extractors; in the loop: it broke off and
            could not be reached again.
        ValueError: a modality does not fit its extractor.
    """
    return LiveReader(
        source, extractors, windows, max_latency_seconds=max_latency_seconds, seconds=seconds, tries=tries
    )
