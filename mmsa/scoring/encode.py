"""A media file read, painted on and written as MP4 (H.264 and AAC), frame by frame."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mmsa.errors import UsageError
from mmsa.scoring.sound import SoundWriter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from extractors.decode_pass import Feed

ENCODERS = ("libx264", "libopenh264")
"""Encoders of H.264, the better first; PyAV's wheels carry one or both."""

CARD_RATE = 10
"""Pictures per second where there is sound and no picture."""

_CLOCK_HZ = 90_000
_OPTIONS = {"libx264": {"preset": "veryfast", "crf": "21", "g": "60"}, "libopenh264": {"g": "60"}}
_OPENH264_BITS = 3_000_000


class Painter(Protocol):
    """What is done to each picture."""

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of all pictures written, both even, given those of the first one read."""
        ...

    def paint(self, picture: NDArray[np.uint8] | None, seconds: float, face: NDArray[np.float64] | None) -> Any:
        """The picture to write.

        Args:
            picture: `(H, W, 3)` RGB, upright; None where the media has none.
            seconds: on the media's clock.
            face: `(478, 2)` landmarks as shares of width and height; `(F, 478, 2)` of several faces; or None.

        Returns:
            `(H', W', 3)` RGB of the size that `size` said.
        """
        ...


class Track(Protocol):
    """What watches the frames for faces.

    Attributes:
        sound: what the decoded sound is given to as well; None where the track does not listen.
    """

    sound: Feed | None

    @property
    def known_seconds(self) -> float:
        """Up to where the face is known."""
        ...

    def feed(self, frame: Any, seconds: float) -> None:
        """Take the next frame."""
        ...

    def finish(self) -> None:
        """No more frames come."""
        ...

    def at(self, seconds: float) -> NDArray[np.float64] | None:
        """The landmarks at an instant not before the last one asked for; see `Painter.paint`."""
        ...


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        codec: the encoder of the pictures.
        frames: how many pictures.
        seconds: how long it is.
        notes: what was wrong with the media.
    """

    codec: str
    frames: int
    seconds: float
    notes: tuple[str, ...] = ()


def find_encoder() -> str:
    """The encoder of H.264 that this PyAV carries.

    Raises:
        UsageError: it carries none.
    """
    import av

    for name in ENCODERS:
        try:
            av.codec.Codec(name, "w")
        except (ValueError, av.error.FFmpegError):
            continue
        return name
    raise UsageError(
        f"this build of PyAV ({av.__version__}) has no encoder of H.264 ({' or '.join(ENCODERS)}): install the wheel "
        "of PyAV from the package index (pip install --force-reinstall av)"
    )


def rewrite(
    path: Path,
    target: Path,
    painter: Painter,
    *,
    span: tuple[float | None, float | None] = (None, None),
    track: Track | None = None,
    metadata: Mapping[str, str] | None = None,
    max_side_pixels: int = 1280,
    progress: Callable[[float, float | None], None] | None = None,
) -> Written:
    """Write a media file as MP4, every picture painted on, with about a second of it in memory.

    Where the track listens for who speaks, there are up to three.

    Pictures keep their times, so a variable frame rate stays one, and turned videos come out upright. Sound is encoded
    again and stays where it was on the clock; gaps in it are silent. Where there is sound without a picture, the
    painter gets none, ten times a second.

    Args:
        path: anything FFmpeg reads (not a still image).
        target: is there whole or not at all; a file that was there is replaced.
        painter: paints.
        span: start and end in seconds of the stretch wanted.
        track: watches the frames, and may listen.
        metadata: tags of the file.
        max_side_pixels: larger pictures are scaled down before they are painted on.
        progress: called with the seconds that are written, and how many the file announces.

    Raises:
        extractors.MediaError: the media cannot be read.
        UsageError: no encoder, or the target cannot be written.
    """
    import av

    from extractors import MediaError
    from extractors.media import MediaFile
    from mmsa.scoring.files import whole_file

    encoder = find_encoder()
    try:
        with MediaFile(path) as media, whole_file(target) as partial:
            with av.open(f"file:{partial}", "w", format="mp4", options={"movflags": "faststart"}) as container:
                container.metadata.update(metadata or {})
                writer = _Rewriter(container, encoder, painter, media, span, track, max_side_pixels)
                writer.tell(media, progress)
                notes = writer.run(media)
            if not writer.frames:
                raise MediaError(f"{path}: no picture of it could be decoded: convert it to MP4, or get it again")
            return Written(encoder, writer.frames, writer.end_seconds, notes)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error}") from None


class Gate:
    """Holds packets back until the size of the pictures is known: the first one written fixes every stream.

    Args:
        container: open for writing.
    """

    def __init__(self, container: Any) -> None:
        self._container = container
        self._held: list[Any] | None = []

    def mux(self, packets: list[Any]) -> None:
        """Write packets, or keep them; sound that is encoded takes little room."""
        if self._held is None:
            self._container.mux(packets)
        else:
            self._held += packets

    def open(self) -> None:
        """Write what is held, and hold nothing more."""
        held, self._held = self._held, None
        self.mux(held or [])


class _Rewriter:
    """The two streams of one file that is written."""

    def __init__(
        self,
        container: Any,
        encoder: str,
        painter: Painter,
        media: Any,
        span: tuple[float | None, float | None],
        track: Track | None,
        max_side_pixels: int,
    ) -> None:
        self._start, self._end = span[0] or 0.0, math.inf if span[1] is None else span[1]
        self._listener = None if track is None else track.sound
        sound, gate = media.info.audio, Gate(container)
        wanted = self._start, self._end
        self._pictures = _Pictures(container, gate, encoder, painter, wanted, track, media, max_side_pixels)
        self._sound: SoundWriter | None = None
        if sound is not None:
            # Where there is no picture, it is the sound that moves the clock.
            tick = self._pictures.hold if media.info.video is None else None
            self._sound = SoundWriter(container, gate.mux, sound, wanted, media.latest_seconds, tick)

    @property
    def frames(self) -> int:
        return self._pictures.frames

    def tell(self, media: Any, progress: Callable[[float, float | None], None] | None) -> None:
        """Have the progress of each picture told."""
        if progress is None:
            return
        whole = media.info.duration_seconds if math.isinf(self._end) else self._end
        announced = None if whole is None else max(whole - self._start, 0.0)
        self._pictures.progress = lambda seconds: progress(seconds - self._start, announced)

    @property
    def end_seconds(self) -> float:
        heard = 0.0 if self._sound is None else self._sound.end_seconds
        return max(heard, self._pictures.end_seconds) - self._start

    def run(self, media: Any) -> tuple[str, ...]:
        from extractors.audio_track import AudioTracks

        video = self._pictures if media.info.video is not None else None
        heard: list[Any] = [feed for feed in (self._listener, self._sound) if feed is not None]
        report = media.decode(AudioTracks(heard) if heard else None, video, start_seconds=self._start)
        if self._sound is not None and self._sound.end_seconds - self._pictures.end_seconds > 1 / CARD_RATE:
            self._pictures.hold(self._sound.end_seconds)
        self._pictures.close()
        if self._sound is not None:
            self._sound.close()
        notes = []
        if report.decode_errors:
            notes.append(f"{report.decode_errors} damaged packets were left out")
        if report.broke_off:
            notes.append(f"the media breaks off at {report.end_seconds:.1f} s ({report.broke_off})")
        return tuple(notes)


class _Pictures:
    """Takes decoded frames, has them painted, and encodes them with their times."""

    def __init__(
        self,
        container: Any,
        gate: Gate,
        encoder: str,
        painter: Painter,
        span: tuple[float, float],
        track: Track | None,
        media: Any,
        max_side_pixels: int,
    ) -> None:
        from extractors.frame_sampler import UprightFrames

        self._gate, self._painter, self._track = gate, painter, track
        self._start, self._end = span
        self._upright = UprightFrames(max_side_pixels, media.pixel_aspect)
        self._latest_seconds = media.latest_seconds
        self._stream = _video_stream(container, encoder)
        self._sized = False
        self._waiting: deque[tuple[Any, float]] = deque()
        self._usual_seconds = 1 / 25
        self._seen: float | None = None
        self._still: NDArray[np.uint8] | None = None
        self.frames = 0
        self.end_seconds = self._start
        self.progress: Callable[[float], None] | None = None

    @property
    def done(self) -> bool:
        return self._seen is not None and self._seen >= self._end

    def wants(self, start_seconds: float, end_seconds: float) -> bool:
        """See `extractors.decode_pass.FrameFeed`: every picture is written, and those before the first are watched."""
        return True

    def feed(self, frame: Any, seconds: float | None) -> None:
        """See `extractors.decode_pass.Feed`."""
        if frame.is_corrupt:
            return
        if seconds is None or not math.isfinite(seconds):
            seconds = 0.0 if self._seen is None else self._seen + self._usual_seconds
        if seconds > self._latest_seconds or (self._seen is not None and seconds <= self._seen):
            return
        if self._seen is not None:
            self._usual_seconds = min(seconds - self._seen, 1.0)
        self._seen = seconds
        if seconds >= self._end:
            return
        if self._track is not None:
            self._track.feed(frame, seconds)
        self._waiting.append((frame, seconds))
        known = math.inf if self._track is None else self._track.known_seconds
        while len(self._waiting) > 1 and self._waiting[0][1] <= known:
            self._give()

    def lose(self, end_seconds: float | None) -> None:
        """See `extractors.decode_pass.Feed`; the report counts them."""

    def finish(self) -> None:
        """See `extractors.decode_pass.Feed`."""
        if self._track is not None:
            self._track.finish()
        while self._waiting:
            self._give()

    def hold(self, seconds: float) -> None:
        """Go on with the last picture, or without one, up to an instant."""
        until = min(seconds, self._end)
        while self.end_seconds < until - 1e-6:
            self._write(self._still, self.end_seconds, 1 / CARD_RATE, None)

    def close(self) -> None:
        """What is still in the encoder."""
        if self._sized:
            self._gate.mux(self._stream.encode(None))

    def _give(self) -> None:
        frame, seconds = self._waiting.popleft()
        face = self._track.at(seconds) if self._track is not None else None
        lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else self._usual_seconds
        if self._waiting:
            lasts = self._waiting[0][1] - seconds
        if seconds + lasts <= self._start:
            return
        begin = max(seconds, self._start)
        self._still = self._upright.convert(frame)
        self._write(self._still, begin, min(seconds + lasts, self._end) - begin, face)

    def _write(
        self, picture: NDArray[np.uint8] | None, seconds: float, lasts: float, face: NDArray[np.float64] | None
    ) -> None:
        import av
        import numpy as np

        if not self._sized:
            height, width = (0, 0) if picture is None else picture.shape[:2]
            self._stream.width, self._stream.height = self._painter.size(width, height)
        painted = np.ascontiguousarray(self._painter.paint(picture, seconds, face))
        frame = av.VideoFrame.from_ndarray(painted, format="rgb24")
        frame.time_base = Fraction(1, _CLOCK_HZ)
        frame.pts = round((seconds - self._start) * _CLOCK_HZ)
        frame.duration = max(1, round(lasts * _CLOCK_HZ))
        packets = self._stream.encode(frame)
        if not self._sized:
            self._sized = True
            self._gate.open()
        self._gate.mux(packets)
        self.frames += 1
        self.end_seconds = max(self.end_seconds, seconds + lasts)
        if self.progress is not None:
            self.progress(self.end_seconds)


def _video_stream(container: Any, encoder: str) -> Any:
    stream = container.add_stream(encoder, rate=25)
    stream.pix_fmt = "yuv420p"
    stream.options = _OPTIONS[encoder]
    stream.codec_context.time_base = Fraction(1, _CLOCK_HZ)
    stream.time_base = Fraction(1, _CLOCK_HZ)
    if encoder == "libopenh264":
        stream.bit_rate = _OPENH264_BITS
    return stream


class Plain:
    """Leaves the pictures as they are, but for odd sizes and such that do not fit the first one's."""

    def size(self, width: int, height: int) -> tuple[int, int]:
        """See `Painter`."""
        self._size = max(2, width - width % 2), max(2, height - height % 2)
        return self._size

    def paint(self, picture: NDArray[np.uint8] | None, seconds: float, face: NDArray[np.float64] | None) -> Any:
        """See `Painter`."""
        import cv2
        import numpy as np

        width, height = self._size
        if picture is None:
            return np.zeros((height, width, 3), np.uint8)
        if picture.shape[0] - height in (0, 1) and picture.shape[1] - width in (0, 1):
            return picture[:height, :width]
        return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
