"""Media files of every kind that people bring, and of the kinds that break: each is rendered here, with PyAV alone.

`FILES` lists them; `media_formats.py` runs the extraction on each and prints what happens. What PyAV's FFmpeg has no
encoder for (Theora, VC-1) is not among them.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

FPS = 25
RATE = 16000


@dataclass(frozen=True)
class Source:
    """What the files show and say.

    Attributes:
        frames: `(H, W, 3)` RGB, 25 a second.
        samples: `(N,)` mono at 16 kHz.
    """

    frames: Sequence[NDArray[np.uint8]]
    samples: NDArray[np.float32]

    def first(self, frames: int | None, seconds: float | None) -> Source:
        """Only the first frames, and the first seconds of sound."""
        samples = self.samples if seconds is None else self.samples[: round(seconds * RATE)]
        return Source(self.frames if frames is None else self.frames[:frames], samples)

    def held(self, clockwise: int) -> Source:
        """As a camera records it that must be turned clockwise by so many degrees."""
        return Source([np.rot90(frame, clockwise // 90) for frame in self.frames], self.samples)

    def times(self, count: int) -> Source:
        """All of it several times over."""
        return Source([*self.frames] * count, np.tile(self.samples, count))


def talking_face(seconds: float = 1.6) -> Source:
    """The drawn face of the demo corpus, which says a sentence."""
    from mmsa.demo.render import render_video

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "face.mp4"
        rendering = render_video(path, seconds=seconds, emotion="joy")
        with av.open(str(path)) as media:
            frames = [frame.to_ndarray(format="rgb24") for frame in media.decode(video=0)]
    return Source(frames, rendering.samples)


@dataclass(frozen=True)
class Picture:
    """How frames are encoded.

    Attributes:
        codec: encoder.
        pixels: pixel format.
        size: width and height; None is the frames' own.
        aspect: width of a pixel over its height.
        fps: frames are repeated or left out to come to it.
        milliseconds: when each frame is shown; None is regularly.
        options: of the encoder.
    """

    codec: str = "libx264"
    pixels: str = "yuv420p"
    size: tuple[int, int] | None = None
    aspect: Fraction = Fraction(1)
    fps: int = FPS
    milliseconds: Sequence[int] | None = None
    options: Mapping[str, str] = field(default_factory=lambda: {"preset": "veryfast"})


@dataclass(frozen=True)
class Sound:
    """How sound is encoded.

    Attributes:
        codec: encoder.
        rate: samples a second.
        layout: of channels.
        only: the channel that has the sound, such as `"FC"`; None is all.
        tracks: how many tracks; the second is silent, and so on.
        options: of the encoder.
    """

    codec: str = "aac"
    rate: int = 48000
    layout: str = "mono"
    only: str | None = None
    tracks: int = 1
    options: Mapping[str, str] = field(default_factory=dict)


def write(
    path: Path, source: Source, picture: Picture | None, sound: Sound | None, options: Mapping[str, str] | None = None
) -> None:
    """Encode a file; the container is told by the suffix.

    Raises:
        av.error.FFmpegError: an encoder is missing, or does not take what it is given.
    """
    with av.open(str(path), "w", options=dict(options or {})) as out:
        packets: list[Any] = []
        makers = []
        if picture is not None:
            makers.append(_add_picture(out, picture, source))
        if sound is not None:
            makers += [_add_sound(out, sound, source.samples * (track == 0)) for track in range(sound.tracks)]
        out.start_encoding()  # the header is there even where nothing follows
        for make in makers:
            packets += make()
        for packet in sorted((p for p in packets if p.dts is not None), key=lambda p: p.dts * p.time_base):
            out.mux(packet)


def _add_picture(out: Any, picture: Picture, source: Source) -> Callable[[], list[Any]]:
    height, width = source.frames[0].shape[:2] if source.frames else (64, 64)
    stream = out.add_stream(picture.codec, rate=picture.fps, options=dict(picture.options))
    stream.width, stream.height = picture.size or (width, height)
    stream.pix_fmt = picture.pixels
    if "x264-params" not in picture.options:
        stream.gop_size = 12
    if picture.aspect != 1:
        stream.codec_context.sample_aspect_ratio = picture.aspect
    base = Fraction(1, picture.fps if picture.milliseconds is None else 1000)
    stream.time_base = stream.codec_context.time_base = base
    count = len(source.frames) * picture.fps // FPS if picture.milliseconds is None else len(picture.milliseconds)

    def make() -> list[Any]:
        packets: list[Any] = []
        if not source.frames:
            return packets
        for number in range(count):
            image = source.frames[min(number * FPS // picture.fps, len(source.frames) - 1)]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = frame.reformat(width=stream.width, height=stream.height, format=picture.pixels)
            frame.pts = number if picture.milliseconds is None else picture.milliseconds[number]
            frame.time_base = base
            packets += stream.encode(frame)
        return packets + list(stream.encode(None))

    return make


def _add_sound(out: Any, sound: Sound, samples: NDArray[np.float32]) -> Callable[[], list[Any]]:
    stream = out.add_stream(sound.codec, rate=sound.rate, layout=sound.layout, options=dict(sound.options))

    def make() -> list[Any]:
        if not len(samples):
            return []
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=sound.rate)
        given = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
        given.sample_rate = RATE
        pieces = [piece.to_ndarray() for piece in [*resampler.resample(given), *resampler.resample(None)]]
        channels = [channel.name for channel in av.AudioLayout(sound.layout).channels]
        share = np.array([[float(sound.only in (None, name))] for name in channels], np.float32)
        whole = np.concatenate(pieces, axis=1) * share
        packets, block = [], 1024
        converter = av.AudioResampler(format=stream.codec_context.format.name, layout=sound.layout, rate=sound.rate)
        for start in range(0, whole.shape[1], block):
            part = np.ascontiguousarray(whole[:, start : start + block])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=sound.layout)
            frame.sample_rate, frame.pts, frame.time_base = sound.rate, start, Fraction(1, sound.rate)
            for one in converter.resample(frame):
                packets += stream.encode(one)
        return packets + list(stream.encode(None))

    return make


# ---- after the encoder


def turn(path: Path, clockwise: int) -> None:
    """Write a rotation into an MP4's track header (ISO/IEC 14496-12, 8.3.2), as telephones do."""
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise]
    data = bytearray(path.read_bytes())
    box = data.index(b"tkhd")
    data[box + 44 : box + 80] = struct.pack(">9i", cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def damage(path: Path, begin: float = 0.4, end: float = 0.6) -> None:
    """Overwrite a part of the file with zeros."""
    data = bytearray(path.read_bytes())
    first, after = int(begin * len(data)), int(end * len(data))
    data[first:after] = bytes(after - first)
    path.write_bytes(data)


def cut_off(path: Path, keep: float = 0.5) -> None:
    """Leave only the beginning of the file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])


def misdate(path: Path) -> None:
    """Stamp a frame in the middle of an FLV file with a time 23 days later (FLV 10.1, E.4.1: a tag's timestamp)."""
    data, place, seen = bytearray(path.read_bytes()), 9 + 4, 0
    while seen < FPS:
        kind, size = data[place], int.from_bytes(data[place + 1 : place + 4], "big")
        seen += kind == 9
        if seen == FPS:
            wild = 2_000_000_000
            data[place + 4 : place + 8] = (wild & 0xFFFFFF).to_bytes(3, "big") + (wild >> 24).to_bytes(1, "big")
        place += 11 + size + 4
    path.write_bytes(data)


def unknown(path: Path) -> None:
    """Give the picture a codec that nobody has heard of."""
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz9"))


def cover(path: Path, source: Source) -> None:
    """Put a JPEG before an MP3, as ID3v2.3 has it (`APIC`)."""
    from io import BytesIO

    from PIL import Image

    picture = BytesIO()
    Image.fromarray(source.frames[0]).save(picture, "JPEG")
    body = b"\0image/jpeg\0\x03\0" + picture.getvalue()
    tag = b"APIC" + struct.pack(">I", len(body)) + b"\0\0" + body
    size = bytes(len(tag) >> shift & 127 for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\0\0" + size + tag + path.read_bytes())


# ---- the list

Make = Callable[[Path, Source], None]


@dataclass(frozen=True)
class Example:
    """A file of the table.

    Attributes:
        name: what it is called.
        about: what is special about it.
        make: writes it.
        picture: how its frames are encoded, where they are.
        sound: how its sound is.
    """

    name: str
    about: str
    make: Make
    picture: Picture | None = None
    sound: Sound | None = None


def plain(
    name: str,
    about: str,
    picture: Picture | None,
    sound: Sound | None,
    *,
    after: Callable[[Path], None] = lambda path: None,
    frames: int | None = None,
    seconds: float | None = None,
    times: int = 1,
    clockwise: int = 0,
    options: Mapping[str, str] | None = None,
) -> Example:
    """An example that is encoded, and then perhaps spoilt."""

    def make(path: Path, source: Source) -> None:
        write(path, source.first(frames, seconds).times(times).held(clockwise), picture, sound, options)
        if clockwise:
            turn(path, clockwise)
        after(path)

    return Example(name, about, make, picture, sound)


def _bytes(content: bytes) -> Make:
    return lambda path, source: path.write_bytes(content) and None


def _still(path: Path, source: Source) -> None:
    from PIL import Image

    Image.fromarray(source.frames[0]).save(path, "PNG")


def _covered(path: Path, source: Source) -> None:
    write(path, source, None, Sound("mp3", 44100, "stereo"))
    cover(path, source)


H264, AAC = Picture(), Sound()
_X265 = {"preset": "ultrafast", "x265-params": "log-level=0"}
_VORBIS = Sound("vorbis", layout="stereo", options={"strict": "-2"})
_FIELDS = Picture("mpeg2video", options={"flags": "+ildct+ilme", "top": "1"})
_IRREGULAR = [0, 30, 200, 230, 700, 710, 1200, 1590]
_FLASH = Picture("flv", options={})
_HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\nh264.mp4\n#EXT-X-ENDLIST\n"
FAST_START = {"movflags": "faststart"}
_WILD = [*(40 * k for k in range(39)), 2_000_000_000]

FILES: tuple[Example, ...] = (
    plain("h264.mp4", "what most people have", H264, AAC),
    plain("hevc.mp4", "H.265", Picture("libx265", options=_X265), AAC),
    plain("vp9.webm", "VP9, Opus", Picture("libvpx-vp9", options={"cpu-used": "8"}), Sound("libopus")),
    plain("vp8.webm", "VP8, Vorbis", Picture("libvpx", options={}), _VORBIS),
    plain("av1.mp4", "AV1", Picture("libsvtav1", options={"preset": "12"}), AAC),
    plain("mpeg4.avi", "MPEG-4 Part 2, MP3", Picture("mpeg4", options={}), Sound("mp3")),
    plain("mjpeg.avi", "JPEG frames, plain samples", Picture("mjpeg", "yuvj420p", options={}), Sound("pcm_s16le")),
    plain("mpeg2.ts", "MPEG-2 as broadcast", Picture("mpeg2video", options={}), Sound("mp2")),
    plain("wmv2.wmv", "Windows Media", Picture("wmv2", options={}), Sound("wmav2", 44100, options={"b": "128000"})),
    plain("flv1.flv", "Flash", _FLASH, Sound("mp3", 44100)),
    plain("prores.mov", "ProRes 4:2:2, 10 bit", Picture("prores_ks", "yuv422p10le", options={}), Sound("pcm_s24le")),
    plain("ffv1.mkv", "lossless", Picture("ffv1", "bgr0", options={}), Sound("pcm_f32le")),
    plain("h263.3gp", "an old telephone: 8 kHz", Picture("h263", size=(176, 144), options={}), Sound("amr_nb", 8000)),
    plain("10bit.mp4", "H.264, 10 bit", replace(H264, pixels="yuv420p10le"), AAC),
    plain("10bit-hevc.mkv", "H.265, 10 bit", Picture("libx265", "yuv420p10le", options=_X265), Sound("flac")),
    plain("444.mp4", "full colour resolution", replace(H264, pixels="yuv444p"), AAC),
    plain("alpha.mov", "transparency", Picture("qtrle", "argb", options={}), AAC),
    plain("rotated.mp4", "a telephone held upright, to be turned by 90°", H264, AAC, clockwise=90),
    plain("upside-down.mp4", "to be turned by 180°", H264, AAC, clockwise=180),
    plain("interlaced.mpg", "interlaced", _FIELDS, Sound("mp2")),
    plain("wide-pixels.mp4", "pixels twice as wide as high", replace(H264, size=(128, 256), aspect=Fraction(2)), AAC),
    plain("odd.mkv", "321 × 241 pixels", Picture("ffv1", "bgr0", size=(321, 241), options={}), Sound("flac")),
    plain("tiny.mp4", "16 × 16 pixels", replace(H264, size=(16, 16)), AAC),
    plain("fast.mp4", "240 frames a second", replace(H264, fps=240), AAC),
    plain("variable.mkv", "variable frame rate", replace(H264, milliseconds=_IRREGULAR), AAC),
    plain("one-frame.mp4", "a single frame", H264, AAC, frames=1),
    plain("stereo.mp4", "two channels, 44.1 kHz", H264, Sound(rate=44100, layout="stereo")),
    plain("5.1.mkv", "AC-3, the voice in the centre", H264, Sound("ac3", layout="5.1(side)", only="FC")),
    plain("telephone.wav", "µ-law, 8 kHz", None, Sound("pcm_mulaw", 8000)),
    plain("studio.flac", "96 kHz", None, Sound("flac", 96000, "stereo")),
    plain("sound.opus", "Opus in Ogg", None, Sound("libopus")),
    plain("sound.m4a", "sound alone", None, AAC),
    plain("silent.mp4", "picture alone", H264, None),
    Example("cover.mp3", "a cover image is no picture", _covered),
    plain("two-tracks.mkv", "the second track is silent", H264, Sound(tracks=2)),
    plain("short-sound.mp4", "the sound ends after 0.4 s", H264, AAC, seconds=0.4),
    plain("short-picture.mp4", "the picture ends after 0.4 s", H264, AAC, frames=10),
    plain("one-sample.wav", "a single sample", None, Sound("pcm_s16le", RATE), seconds=1 / RATE),
    plain("no-frames.mp4", "headers, and nothing in them", H264, AAC, frames=0, seconds=0),
    plain("wild-time.flv", "one frame stamped 23 days later", _FLASH, Sound("mp3", 44100), after=misdate),
    plain("wild-end.mkv", "the last frame stamped 23 days later", replace(H264, milliseconds=_WILD), Sound("flac")),
    plain("unknown.mp4", "a codec that nobody knows", H264, AAC, after=unknown),
    plain("damaged.mp4", "zeros in the middle", H264, AAC, times=4, after=damage, options=FAST_START),
    plain("damaged.mkv", "zeros in the middle", H264, AAC, times=4, after=damage),
    plain("damaged.ts", "zeros in the middle", H264, Sound("mp2"), times=4, after=damage),
    plain("cut-off.mp4", "cut off, index at the front", H264, AAC, times=4, after=cut_off, options=FAST_START),
    plain("cut-off.mkv", "cut off", H264, AAC, times=4, after=cut_off),
    plain("no-index.mp4", "cut off, so that its index is missing", H264, AAC, after=cut_off),
    Example("empty.mp4", "0 bytes", lambda path, source: path.touch()),
    Example("text.mp4", "a text", _bytes(b"Dear diary, this is no video.\n" * 50)),
    Example("noise.mp4", "random bytes", _bytes(np.random.default_rng(0).bytes(20_000))),
    Example("playlist.mp4", "an HLS playlist", _bytes(_HLS)),
    Example("list.mp4", "a list for FFmpeg's concat", _bytes(b"ffconcat version 1.0\nfile 'h264.mp4'\n")),
    Example("photo.mp4", "a PNG by a wrong name", _still),
    Example("pipe.mp4", "a named pipe", lambda path, source: os.mkfifo(path)),
    Example("folder.mp4", "a folder", lambda path, source: path.mkdir()),
)  # fmt: skip
