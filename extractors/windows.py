"""`extract_windows`: many stretches of one long file in a single decode pass, in memory that does not grow with it."""

from __future__ import annotations

import math
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from extractors.base import AudioExtractor, Extractor, TextExtractor, VisionExtractor, VisionStream
from extractors.extraction import (
    ClipPass,
    Clock,
    Extraction,
    check_modalities,
    decoder_for,
    extract,
    no_words,
    open_media,
)
from extractors.media import Media, MediaFile
from extractors.transcript import Transcript

Span = tuple[float, float]

# How far one stream of a file may run ahead before windows stop waiting for the other (one that ended early, say).
_INTERLEAVING_SECONDS = 30.0
# A rest that no window covers and that is shorter than this is what codecs add to fill their last block.
_REST_SECONDS = 0.25
# Windows that wait for the caller: the decoder goes on while a model works, but not further than this.
_WAITING_WINDOWS = 8


@dataclass(frozen=True)
class Sliding:
    """Windows of one length at regular starts, until one reaches the media's end (to a quarter second).

    Attributes:
        window_seconds: length; the last window is cut at the media's end.
        hop_seconds: from one start to the next.

    Raises:
        ValueError: a length is not positive and finite.
    """

    window_seconds: float
    hop_seconds: float

    def __post_init__(self) -> None:
        for name in ("window_seconds", "hop_seconds"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number of seconds, not {value}")

    def __iter__(self) -> Iterator[Span]:
        number = 0
        while True:
            start = number * self.hop_seconds
            yield start, start + self.window_seconds
            number += 1


@dataclass(frozen=True)
class Window:
    """One stretch of a file.

    Attributes:
        number: from 0, in the order asked for.
        start_seconds: where it starts.
        end_seconds: where it ends, at most the media's end.
        extraction: its features. Notes on the file as a whole are in `WindowReader.notes`.
    """

    number: int
    start_seconds: float
    end_seconds: float
    extraction: Extraction


class WindowSink(ABC):
    """What a pass over media asks for and hands its windows to.

    Args:
        extractors: extractor by modality.
        spans: start and end in seconds, by start, or `Sliding`.
        transcript: what is said.

    Attributes:
        extractors: as given.
        duration_seconds: where the decoded media ends; None before the last window.
        notes: what the user should know of the media; complete after the last window.
    """

    def __init__(
        self, extractors: Mapping[str, Extractor], spans: Iterable[Span], transcript: Transcript | str | None
    ) -> None:
        check_modalities(extractors)
        self.extractors, self._spans = dict(extractors), spans
        self._transcript = Transcript.of(transcript)
        self.duration_seconds: float | None = None
        self.notes: tuple[str, ...] = ()

    @abstractmethod
    def hand_over(self, window: Window) -> None:
        """Take a window on its way to the caller."""

    @abstractmethod
    def others(self, span: Span) -> Extraction | None:
        """The modalities of a window that the pass itself does not serve; None where it serves all."""

    @property
    def spans(self) -> Iterable[Span]:
        """What was asked for."""
        return self._spans

    def texts(self, span: Span) -> Extraction:
        """The words of a window."""
        sequences, missing = {}, {}
        for key, extractor in self.extractors.items():
            if isinstance(extractor, TextExtractor):
                sequences[key] = extractor.extract_text(self._transcript, *span)
                if not len(sequences[key]):
                    missing[key] = no_words(self._transcript)
        return Extraction(sequences, missing, span[1] - span[0])

    def ended(self, seconds: float, notes: tuple[str, ...]) -> None:
        """Take down what is known of the whole file."""
        self.duration_seconds, self.notes = seconds, notes

    @property
    def modalities(self) -> tuple[str, ...]:
        """In the order of the extractors given."""
        return tuple(self.extractors)


class WindowReader(WindowSink):
    """Iterates over the windows of a file; `extract_windows` makes one.

    Decoding runs on a thread of its own, a few windows ahead of the caller at most. Leaving the loop early, or
    `close`, ends it.

    Attributes:
        duration_seconds: where the decoded media ends; None before the last window.
        announced_seconds: what the file says its duration is; None where it does not.
        notes: what the user should know of the file; complete after the last window.
    """

    def __init__(
        self,
        path: str | Path,
        extractors: Mapping[str, Extractor],
        spans: Iterable[Span],
        transcript: Transcript | str | None,
        device: str = "auto",
    ) -> None:
        super().__init__(extractors, spans, transcript)
        self._path, self._device = Path(path), device
        self._queue: queue.Queue[Window | BaseException | None] = queue.Queue(_WAITING_WINDOWS)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        decoder_for(extractors, device)  # what cannot be is known before the loop
        with MediaFile(self._path) as media:
            self.announced_seconds = media.info.duration_seconds

    def __iter__(self) -> Iterator[Window]:
        if self._thread is not None:
            raise RuntimeError("the windows of a file are read once: call extract_windows again")
        self._thread = threading.Thread(target=self._work, name="extractors-windows", daemon=True)
        self._thread.start()
        try:
            while (item := self._queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self.close()

    def close(self) -> None:
        """Stop decoding; safe to call twice."""
        self._stop.set()
        while self._thread is not None and self._thread.is_alive():
            try:  # the thread may be waiting for room
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(0.05)

    def _work(self) -> None:
        try:
            rolling = {k: e for k, e in self.extractors.items() if _rolls(e)}
            with open_media(self._path, rolling, self._device) as media:
                found = RollingPass(media, rolling, self)
                try:
                    found.read()
                finally:
                    found.close()
            self._queue.put(None)
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where the caller is
            self._queue.put(error)

    def hand_over(self, window: Window) -> None:
        """Pass a window on to the caller; waits while enough are waiting already."""
        while not self._stop.is_set():
            try:
                self._queue.put(window, timeout=0.2)
            except queue.Full:
                continue
            return
        raise _StoppedError

    def others(self, span: Span) -> Extraction | None:
        """The modalities whose extractors cannot serve windows from one pass, read from the file again."""
        others = {k: e for k, e in self.extractors.items() if not _rolls(e) and not isinstance(e, TextExtractor)}
        if not others:
            return None
        return extract(self._path, others, start_seconds=span[0], end_seconds=span[1], device=self._device)


class _StoppedError(Exception):
    """The caller wants no more windows."""


class RollingPass(ClipPass):
    """A pass over the whole file that hands over each window as soon as all of it has been decoded."""

    interleaving_seconds = _INTERLEAVING_SECONDS

    def __init__(self, media: Media, extractors: Mapping[str, Extractor], reader: WindowSink) -> None:
        super().__init__(media, extractors, 0.0, math.inf)
        self._reader = reader
        self._waiting: Iterator[tuple[int, Span]] = enumerate(_in_order(reader.spans))
        self._current = next(self._waiting, None)
        self._latest: dict[Clock, float] = {}
        self._covered = 0.0

    def read(self) -> None:
        """Read the file to its end."""
        self._prepare()
        for stream in self._streams.values():
            stream.expect_windows()
        self._latest = dict.fromkeys(self._clocks, 0.0)
        end = self._decode()
        self._reader.ended(end, self._told())
        self._give_rest(end)
        self._reader.ended(end, (*self._told(), *self._streams_told()))

    def _streams_told(self) -> list[str]:
        """What the streams noticed, which is known when all windows are out."""
        return [n for stream in self._streams.values() if isinstance(stream, VisionStream) for n in stream.notes()]

    def _give_rest(self, end: float) -> None:
        """Hand over the windows that wait for what will never come, as the media has ended."""
        sliding = isinstance(self._reader.spans, Sliding)
        while self._current is not None and not (sliding and self._covered >= end - _REST_SECONDS):
            self._give(end)

    def _after_push(self, clock: Clock, seconds: float) -> None:
        """Called by the decode pass when a stream has been given all sound, or every picture, before `seconds`."""
        self._latest[clock] = seconds
        while self._current is not None:
            _, (_, end) = self._current
            needed = {key: end + self._after(key[0]) for key in self._latest}
            late = [key for key, at in self._latest.items() if at < needed[key]]
            if late and max(self._latest.values()) < max(needed.values()) + self.interleaving_seconds:
                return
            self._give(math.inf)

    def _before(self, name: str) -> float:
        """How much before a window bears on it."""
        extractor = self._extractors[name]
        if isinstance(extractor, AudioExtractor):
            return extractor.context_seconds
        return extractor.before_seconds if isinstance(extractor, VisionExtractor) else 0.0

    def _after(self, name: str) -> float:
        """How much after a window bears on it."""
        extractor = self._extractors[name]
        if isinstance(extractor, AudioExtractor):
            return extractor.context_seconds
        return extractor.after_seconds if isinstance(extractor, VisionExtractor) else 0.0

    def _give(self, media_end: float) -> None:
        """Hand over the current window."""
        assert self._current is not None
        number, (start, end) = self._current
        self._covered = max(self._covered, end)
        end = min(end, max(media_end, start))
        if start >= media_end:
            reason = f"the media ends at {media_end:.2f} s, before this window"
            sequences = {key: self._reader.extractors[key].empty() for key in self._reader.modalities}
            found = Extraction(sequences, dict.fromkeys(sequences, reason), 0.0)
        else:
            found = self._merge((start, end))
        self._reader.hand_over(Window(number, start, end, found))
        self._advance()

    def _advance(self) -> None:
        """Go on to the next window and forget what neither it nor a later one needs."""
        self._current = next(self._waiting, None)
        if self._current is not None:
            for name, stream in self._streams.items():
                stream.forget(self._current[1][0] - self._before(name))

    def _merge(self, span: Span) -> Extraction:
        parts = [self._reader.texts(span)]
        other = self._reader.others(span)
        if other is not None:
            parts.append(other)
        sequences = {key: seq for part in parts for key, seq in part.sequences.items()}
        missing = {key: reason for part in parts for key, reason in part.missing.items()}
        for name, extractor in self._extractors.items():
            stream = self._streams.get(name)
            if stream is None:
                sequences[name] = extractor.empty()
                missing[name] = self._missing[name]
                continue
            sequences[name], reason = stream.window(*span)
            if not len(sequences[name]):
                missing[name] = reason
        notes = other.notes if other is not None else ()
        return Extraction({key: sequences[key] for key in self._reader.modalities}, missing, span[1] - span[0], notes)


def extract_windows(
    path: str | Path,
    extractors: Mapping[str, Extractor],
    spans: Iterable[Span] | Sliding,
    *,
    transcript: Transcript | str | None = None,
    device: str = "auto",
) -> WindowReader:
    """Extract many stretches of one file while it is decoded once.

    Each window gets the steps whose middle lies in `[start, end)`, as `extract` gives them for that segment, but
    that trackers are not started afresh: FaceMesh follows the face through the whole file. Extractors that cannot
    serve windows from one pass (`Extractor.rolling` is False) read the file again for each window.

    Args:
        path: the media file.
        extractors: extractor by modality.
        spans: start and end in seconds, by start; they may overlap. `Sliding` covers the file. A span beyond the end
            of the media gives a window in which every modality is missing.
        transcript: what is said; segments' times are on the media's clock.
        device: where frames are decoded; see `extractors.extract`.

    Raises:
        MediaError: the file cannot be used; raised here or by the loop.
        ToolError: `device` names a CUDA device and there is none.
        ValueError: a modality does not fit its extractor, or `device` is no name of one; in the loop: spans out of
            order.

    Example:
        >>> import itertools
        >>> list(itertools.islice(Sliding(10.0, 5.0), 3))
        [(0.0, 10.0), (5.0, 15.0), (10.0, 20.0)]
    """
    return WindowReader(path, extractors, spans, transcript, device)


def _rolls(extractor: Extractor) -> bool:
    return isinstance(extractor, (AudioExtractor, VisionExtractor)) and extractor.rolling


def _in_order(spans: Iterable[Span]) -> Iterator[Span]:
    last = 0.0
    for start, end in spans:
        if not last <= start < end or not math.isfinite(start):
            raise ValueError(f"windows need 0 <= start < end and must be sorted by start, not {start} to {end} s")
        last = start
        yield float(start), float(end)
