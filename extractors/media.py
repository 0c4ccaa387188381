"""`MediaFile`: a media file, opened safely and decoded in one pass."""

from __future__ import annotations

import math
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from extractors.audio_track import PREROLL_SECONDS
from extractors.cores import usable_cores
from extractors.decode_pass import DecodePass, DecodeReport, Feed, FrameFeed, ffmpeg_error
from extractors.decoding import (
    CPU,
    HARDWARE_THREADS,
    ON_DEVICE,
    accelerator,
    cuda_context,
    device_number,
    ffmpeg_log,
    why_no_hardware,
)
from extractors.errors import MediaError
from extractors.keyframes import FromKeyframe
from extractors.still_image import STILL_IMAGES_IN_WORDS
from extractors.unseen import UnseenFrames

# Demuxers whose files are self-contained. Playlists and manifests (hls, dash, concat, ...) name other files, so that a
# hostile one could make the reader open them; they are not here.
ALLOWED_FORMATS = (
    "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "flv", "asf", "mpeg", "mpegts",
    "mpegvideo", "m4v", "h264", "hevc", "ogg", "wav", "w64", "flac", "mp3", "aac", "aiff", "caf", "au", "amr", "nut",
)  # fmt: skip
_SEEKABLE = {"mov", "matroska", "webm", "avi", "wav", "w64", "flac", "nut"}
ALLOWED_IN_WORDS = (
    "allowed are self-contained audio or video files (MP4, MOV, MKV, WebM, AVI, WAV, FLAC, MP3, OGG, ...) and "
    f"{STILL_IMAGES_IN_WORDS}"
)
"""How messages name what can be read."""
_SLACK_SECONDS = 30.0
_MICROSECONDS = 1_000_000
_MOST_THREADS = 16  # FFmpeg's own limit: each holds a picture


@dataclass(frozen=True)
class StreamInfo:
    """What a file announces of one stream.

    Attributes:
        codec: short name such as `"h264"`, or "" where no decoder is known.
        duration_seconds: announced duration; None where the file does not say.
        pixel_format: of a picture, such as `"yuv420p"`; "" where it is unknown.
        sample_rate_hz: of sound; 0 where it is unknown.
        channels: of sound; 0 where they are unknown.
    """

    codec: str
    duration_seconds: float | None
    pixel_format: str = ""
    sample_rate_hz: int = 0
    channels: int = 0


@dataclass(frozen=True)
class MediaInfo:
    """What a file announces of itself; nothing is decoded to learn it.

    Attributes:
        duration_seconds: announced duration; None where the file does not say.
        audio: the sound, or None.
        video: the picture, or None; a cover image is not a picture.
        formats: FFmpeg's names of the container, such as `("mov", "mp4", "m4a")` for one that goes by several.
    """

    duration_seconds: float | None
    audio: StreamInfo | None
    video: StreamInfo | None
    formats: tuple[str, ...] = ()


class Media(Protocol):
    """What a decode pass needs of what it decodes; `MediaFile` says what each of these is."""

    path: Path
    info: MediaInfo

    @property
    def latest_seconds(self) -> float: ...  # noqa: D102

    @property
    def pixel_aspect(self) -> float: ...  # noqa: D102

    def measure_seconds(self) -> float: ...  # noqa: D102

    def decode(  # noqa: D102
        self,
        audio: Feed | None,
        frames: FrameFeed | None,
        *,
        start_seconds: float = 0.0,
        pictures_from: float | None = None,
    ) -> DecodeReport: ...


class MediaFile:
    """An open local media file.

    FFmpeg may open nothing but this file: its protocols are limited to `file`, its formats to self-contained ones
    (`ALLOWED_FORMATS`), and what is not a regular file is refused before FFmpeg sees it.

    Args:
        path: the file.
        device: where frames are decoded: `"cpu"`; `"cuda"` or `"cuda:N"` for that GPU's decoder, whose frames stay on
            the device until somebody converts them. What the GPU cannot decode the CPU does, and
            `DecodeReport.fallback` says so. Sound is always decoded on the CPU.
        fallback: why it is the CPU's turn although another device was wanted, for that report.

    Raises:
        MediaError: no such file, not a regular file, empty, not media, of a refused kind, or broken beyond reading.
        ValueError: `device` is neither the CPU nor a CUDA device.
    """

    def __init__(self, path: str | Path, *, device: str = CPU, fallback: str = "") -> None:
        self.path = checked_file(Path(path))
        self._device, self._fallback = device, fallback
        self._container = self._open()
        self._origin = (self._container.start_time or 0) / _MICROSECONDS
        self._audio = self._container.streams.best("audio")
        best = self._container.streams.best("video")
        self._video: Any = None if is_cover(best) else best
        if self._audio is None and self._video is None:
            self.close()
            raise MediaError(f"{self.path}: holds neither sound nor picture; {ALLOWED_IN_WORDS}")
        self.info = MediaInfo(
            self._container.duration / _MICROSECONDS if self._container.duration else None,
            stream_info(self._audio),
            stream_info(self._video),
            tuple(self._container.format.name.split(",")),
        )

    def __enter__(self) -> MediaFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def device(self) -> str:
        """Where frames are decoded, as far as is known before the first; see `DecodeReport.fallback`."""
        return self._device

    @property
    def container(self) -> Any:
        """PyAV's, for readers that pace themselves; whoever takes it closes it."""
        return self._container

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @property
    def latest_seconds(self) -> float:
        """Timestamps beyond this cannot be right."""
        known = self.info.duration_seconds
        return math.inf if known is None else known + _SLACK_SECONDS

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel over its height."""
        return pixel_aspect(self._video)

    def decode(
        self,
        audio: Feed | None,
        frames: FrameFeed | None,
        *,
        start_seconds: float = 0.0,
        pictures_from: float | None = None,
    ) -> DecodeReport:
        """Read the file once, feeding the sound and the frames; in memory is never more than a few seconds.

        Frames that are not looked at are not all decoded, see `UnseenFrames`. Packets that cannot be decoded are left
        out and counted; if the reading breaks off, what came before stands.

        Args:
            audio: where sound goes; None where it is not wanted or not there.
            frames: where frames go; None where they are not wanted or not there.
            start_seconds: nothing before this is wanted, so that reading may begin at a keyframe shortly before.
            pictures_from: no picture that ends before this is wanted, though sound is: the first one decoded is the
                last keyframe before it, in formats whose keyframes can be trusted.
        """
        feeds = [
            (stream, feed)
            for stream, feed in ((self._audio, audio), (self._video, frames))
            if stream is not None and feed is not None and stream.codec_context is not None and not feed.done
        ]
        if not feeds:
            return DecodeReport(self.info.duration_seconds or math.inf, False, 0, "")
        for stream, _ in feeds:
            stream.thread_type = "AUTO"
            if stream is self._video:
                stream.codec_context.thread_count = HARDWARE_THREADS if self._device != CPU else _decoder_threads()
        self._seek(start_seconds)
        # AVI says when a picture is decoded, not when it is shown; FFmpeg's guess at the latter is wrong for B-frames.
        shown = "avi" not in self.info.formats
        sieves: list[FromKeyframe | UnseenFrames] = []
        if self._video is not None and frames is not None and shown:
            if pictures_from is not None and self._may_seek:
                sieves.append(FromKeyframe(self._video.index, pictures_from + self._origin))
            if self._device == CPU and UnseenFrames.can(self._video):  # NVDEC: not tried yet
                sieves.append(UnseenFrames(self._video, frames.wants, self._origin))
        run = DecodePass(self._container, {s.index: f for s, f in feeds}, self._origin, sieves, shown=shown)
        report = run.run([s for s, _ in feeds])
        return replace(report, fallback=self._why_on_cpu(run.formats))

    def _open(self) -> Any:
        """Open the file for decoding on the device, or on the CPU where that fails for the device's sake."""
        if self._device == CPU:
            return _open(self.path)
        number = device_number(self._device)
        with ffmpeg_log() as said:
            try:
                with cuda_context(number) as options:
                    return _open(self.path, accelerator(number, options))
            except (MediaError, RuntimeError) as error:
                problem = error.__cause__ or error
        container = _open(self.path)
        reason = "; ".join(said) or problem
        self._device, self._fallback = CPU, f"FFmpeg could not open the GPU's decoder ({reason})"
        return container

    def _why_on_cpu(self, formats: Mapping[int, str]) -> str:
        """Why the frames decoded first are not on the device that they were wanted on."""
        found = "" if self._video is None else formats.get(self._video.index, "")
        if self._device == CPU or found in ("", ON_DEVICE):
            return self._fallback
        return why_no_hardware(self._video) or (
            f"the GPU or its driver cannot decode this kind of {self._video.codec_context.codec.name} ({found}, "
            f"{self._video.codec_context.width} × {self._video.codec_context.height})"
        )

    def measure_seconds(self, *, announced: bool = True) -> float:
        """How long the file is, without decoding it; it cannot be decoded from the start afterwards.

        Args:
            announced: take the file's word where it gives it; without, every packet is read, which a file cannot
                deceive about how much there is to decode.
        """
        if announced and self.info.duration_seconds is not None:
            return self.info.duration_seconds
        end, unstamped = 0.0, dict[int, float]()
        with suppress(ffmpeg_error()):
            for packet in self._container.demux([one for one in (self._audio, self._video) if one is not None]):
                if packet.time_base is None:
                    continue
                length = float((packet.duration or 0) * packet.time_base)
                if packet.pts is not None:
                    end = max(end, float(packet.pts * packet.time_base) - self._origin + length)
                else:  # it follows the one before
                    unstamped[packet.stream_index] = unstamped.get(packet.stream_index, 0.0) + length
        return end + max(unstamped.values(), default=0.0)

    @property
    def _may_seek(self) -> bool:
        return bool(_SEEKABLE & set(self.info.formats))

    def _seek(self, start_seconds: float) -> None:
        """Go to a keyframe before `start_seconds`, in formats whose index can be trusted; others are read through."""
        target = start_seconds - PREROLL_SECONDS - 0.3
        if target <= 0 or not self._may_seek:
            return
        with suppress(ffmpeg_error()):
            self._container.seek(int((target + self._origin) * _MICROSECONDS), backward=True)


def _decoder_threads() -> int:
    """One for each core that this process may use, which FFmpeg would exceed: another thread looks at the pictures."""
    return min(usable_cores(), _MOST_THREADS)


def checked_file(path: Path) -> Path:
    """The path, if it names a non-empty regular file.

    Raises:
        MediaError: it does not.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(
            f"{path}: {error.strerror or error}; {ALLOWED_IN_WORDS}: check the path and its permissions"
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{path}: is a directory; {ALLOWED_IN_WORDS}: give the files in it one by one")
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path}: is not a regular file; {ALLOWED_IN_WORDS}: save the media to a file first")
    if status.st_size == 0:
        raise MediaError(f"{path}: is empty (0 bytes); {ALLOWED_IN_WORDS}: copy or record it again")
    return path


def _open(path: Path, hardware: Any = None) -> Any:
    import av

    if hardware is None:  # else what FFmpeg says is listened to
        av.logging.set_level(None)
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(ALLOWED_FORMATS)}
    try:
        return av.open(
            f"file:{path.resolve()}", mode="r", container_options=options, metadata_errors="ignore", hwaccel=hardware
        )
    except PermissionError as error:
        raise MediaError(
            f"{path}: not readable ({error.strerror}); {ALLOWED_IN_WORDS}: check its permissions"
        ) from error
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MediaError(
            f"{path}: not readable as media ({reason}); {ALLOWED_IN_WORDS}, complete to their end, no playlists: "
            "if it plays elsewhere, convert it to MP4; if it was cut off while being copied or recorded, get it again"
        ) from error


def is_cover(stream: Any) -> bool:
    """Whether a stream is a cover image, which is no moving picture."""
    import av

    return stream is not None and bool(stream.disposition & av.stream.Disposition.attached_pic)


def pixel_aspect(video: Any) -> float:
    """Width of a pixel over its height, of a video stream or None."""
    ratio = video.sample_aspect_ratio if video is not None else None
    return float(ratio) if ratio and 0.1 < float(ratio) < 10.0 else 1.0


def stream_info(stream: Any) -> StreamInfo | None:
    """What a stream announces of itself."""
    if stream is None:
        return None
    context = stream.codec_context
    announced = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
    about = {"pixel_format": "pix_fmt", "sample_rate_hz": "sample_rate", "channels": "channels"}
    found = {name: value for name, own in about.items() if (value := getattr(context, own, None))}
    if found.get("pixel_format") == ON_DEVICE:  # where its frames will lie, and nothing that the file announces
        del found["pixel_format"]
    return StreamInfo(context.name if context is not None else "", announced, **found)
