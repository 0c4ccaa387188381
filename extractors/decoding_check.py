"""`try_nvdec`: whether the GPU's decoder really works here, by decoding a small film made for it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from extractors.decoding import (
    ON_DEVICE,
    accelerator,
    cuda_context,
    device_number,
    ffmpeg_log,
    why_no_hardware,
    why_not,
)

# Codecs that FFmpeg may decode on the GPU, with an encoder for each that PyAV's wheels carry. AV1 is none of them: the
# decoder that FFmpeg chooses for it (dav1d) is one for the CPU.
CODECS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9"}
# NVDEC decodes nothing smaller than about 144 pixels a side.
_WIDTH, _HEIGHT, _FRAMES = 320, 240, 4


def try_nvdec(codec: str, device: str = "cuda") -> str:
    """Decode a few frames of a codec on a GPU.

    Args:
        codec: one of `CODECS`.
        device: `"cuda"` or `"cuda:N"`.

    Returns:
        Why its frames did not come from the GPU, in FFmpeg's words where it has any; "" where they did.
    """
    if reason := why_not(device):
        return reason
    import av

    film = small_film(codec)
    with ffmpeg_log() as said:
        try:
            with cuda_context(number := device_number(device)) as options:
                container: Any = av.open(film, hwaccel=accelerator(number, options))
            with container:
                stream = container.streams.video[0]
                stream.codec_context.thread_count = (
                    1  # what other threads say, they would have to wait for Python to say
                )
                reason = why_no_hardware(stream)
                formats = {frame.format.name for frame in container.decode(stream)}
        except (av.error.FFmpegError, RuntimeError) as error:
            return str(error)
    if formats == {ON_DEVICE}:
        return ""
    return reason or "; ".join(said) or f"its frames came as {', '.join(sorted(formats)) or 'nothing'}"


def small_film(codec: str) -> io.BytesIO:
    """A few frames of a moving square, in Matroska."""
    import av

    film = io.BytesIO()
    with av.open(film, "w", format="matroska") as out:
        stream: Any = out.add_stream(CODECS[codec], rate=25)
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for number in range(_FRAMES):
            picture = np.full((_HEIGHT, _WIDTH, 3), 64, np.uint8)
            picture[100:140, 20 * number : 20 * number + 40] = 200
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    film.seek(0)
    return film
