"""Talking videos of any size and length for benchmarks, made of the demo corpus's faces."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mmsa.demo.render import render_video
from mmsa.demo.speakers import SPEAKERS

GRAIN = 3.0
"""Standard deviation of each picture's noise in grey levels: without it, a still wall costs a decoder nothing."""


def talking_file(path: Path, *, seconds: float, width: int, height: int, fps: int, speaker: int = 0) -> Path:
    """One person talking for so long: H.264 with B-frames and a keyframe every 2 s, AAC at 48 kHz.

    Args:
        path: an MP4 file.
        seconds: duration.
        width: of the picture; the face stands in its middle, as high as the picture.
        height: of the picture.
        fps: frames per second.
        speaker: which of the demo corpus's cast.
    """
    small = path.with_suffix(".small.mp4")
    emotions = ("joy", "anger", "neutral", "sadness", "surprise")
    who = SPEAKERS[speaker % len(SPEAKERS)]
    render_video(small, speaker=who, emotion=emotions[speaker % 5], seconds=seconds, seed=speaker)
    with av.open(str(small)) as source, av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "23", "g": str(2 * fps)})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = out.add_stream("aac", rate=48000, layout="stereo")
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=48000)
        pictures = _resampled(source, fps, width, height)
        for sound in source.decode(audio=0):
            for part in resampler.resample(sound):
                out.mux(audio.encode(part))
        out.mux(audio.encode(None))
        source.seek(0)
        for number, image in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    small.unlink()
    return path


def _resampled(source: Any, fps: int, width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    """Pictures at another rate and size, each with its own grain."""
    rng = np.random.default_rng(0)
    grain = [rng.normal(0, GRAIN, (height, width, 1)).astype(np.int16) for _ in range(7)]
    left = (width - height) // 2
    number = 0
    for frame in source.decode(video=0):
        until = float(frame.time + 1 / 25)
        if number / fps >= until - 1e-6:
            continue
        face = frame.to_ndarray(format="rgb24", width=height, height=height)
        wide = np.pad(face, ((0, 0), (left, width - height - left), (0, 0)), mode="edge").astype(np.int16)
        while number / fps < until - 1e-6:
            yield np.clip(wide + grain[number % 7], 0, 255).astype(np.uint8)
            number += 1


def repeat(path: Path, target: Path, seconds: float) -> list[tuple[Fraction, Fraction]]:
    """A file repeated, packet by packet, until it is so long; nothing is encoded anew.

    Returns:
        Where each repetition starts and ends, in seconds.
    """
    spans: list[tuple[Fraction, Fraction]] = []
    with av.open(str(target), "w") as out:
        made: dict[int, Any] = {}
        while not spans or spans[-1][1] < seconds:
            with av.open(str(path)) as source:
                made = made or {one.index: out.add_stream_from_template(one) for one in source.streams}
                packets: list[Any] = [packet for packet in source.demux() if packet.dts is not None]
                # Codecs begin a little before 0; what was before must have ended by then.
                start = (spans[-1][1] if spans else 0) - min(packet.dts * packet.time_base for packet in packets)
                end = max((packet.pts + packet.duration) * packet.time_base for packet in packets) + start
                for packet in packets:
                    shift = round(start / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = made[packet.stream.index]
                    out.mux(packet)
            spans.append((start, end))
    return spans


def shortest(path: Path, target: Path, seconds: float = 0.1) -> Path:
    """The beginning of a file, packet by packet."""
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        made: dict[int, Any] = {one.index: out.add_stream_from_template(one) for one in source.streams}
        for packet in source.demux():
            if packet.dts is not None and packet.dts * packet.time_base < seconds:
                packet.stream = made[packet.stream.index]
                out.mux(packet)
    return target
