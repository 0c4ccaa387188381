"""Where frames are decoded: on the CPU, or by an NVIDIA GPU's own decoder (NVDEC), and why not where it cannot be.

FFmpeg's hardware decoding through PyAV. The decoder gives the planes that the standard of the codec demands, bit for
bit those of a decoder on the CPU; only damaged streams are concealed in other ways.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from extractors.errors import ToolError

CPU = "cpu"
ON_DEVICE = "cuda"
"""FFmpeg's name for the format of frames that lie on a CUDA device."""

_CUDA = re.compile(r"cuda(?::(\d+))?")
# More decoder threads than this, and the pictures that they hold exceed what NVDEC can have at once (32).
HARDWARE_THREADS = 4

_lock = threading.Lock()
# FFmpeg's devices, by number. Held for the life of the process: a CUDA context costs a tenth of a second to make.
_open_devices: dict[int, Any] = {}


def check_device(device: str) -> None:
    """Refuse what is no name of a device.

    Raises:
        ValueError: it is none.
    """
    if device not in ("auto", CPU) and not _CUDA.fullmatch(device):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', not {device!r}")


def choose_device(device: str, frames_device: str | None) -> tuple[str, str]:
    """Where to decode for an extractor.

    `"auto"` is NVDEC where the frames are wanted on a CUDA device anyway and FFmpeg can use that device; the CPU
    otherwise, as frames for extractors that look at them in memory would have to come back.

    Args:
        device: `"auto"`, `"cpu"`, `"cuda"` or `"cuda:N"`.
        frames_device: see `VisionExtractor.frames_device`.

    Returns:
        `"cpu"`, `"cuda"` or `"cuda:N"`, and why it is the CPU where NVDEC would have been chosen, or "".

    Raises:
        ToolError: a CUDA device is asked for by name and there is none. One that only FFmpeg cannot use is a reason for
            the CPU.
        ValueError: `device` is no name of a device.
    """
    check_device(device)
    if device == "auto":
        if frames_device is None or not _CUDA.fullmatch(frames_device):
            return CPU, ""
        reason = why_not(frames_device)
        return (CPU, f"FFmpeg cannot use the CUDA device ({reason})") if reason else (frames_device, "")
    if device == CPU or not (reason := why_not(device)):
        return device, ""
    if torch_sees(device):
        return CPU, f"FFmpeg cannot use the CUDA device ({reason})"
    raise ToolError(
        f"device={device!r} was asked for, but neither torch nor FFmpeg ({reason}) finds that CUDA device: use 'auto' "
        "or 'cpu', or see what `mmsa doctor` says"
    )


def torch_sees(device: str) -> bool:
    """Whether there is such a CUDA device for torch."""
    import torch

    return torch.cuda.is_available() and device_number(device) < torch.cuda.device_count()


def device_number(device: str) -> int:
    """Of a CUDA device's name.

    Example:
        >>> device_number("cuda"), device_number("cuda:1")
        (0, 1)
    """
    found = _CUDA.fullmatch(device)
    if found is None:
        raise ValueError(f"{device!r} is no CUDA device: 'cuda' or 'cuda:N'")
    return int(found[1] or 0)


def why_not(device: str) -> str:
    """Why FFmpeg cannot use a CUDA device, in its own words; "" where it can."""
    import av

    number = device_number(device)
    with _lock:
        if number in _open_devices:
            return ""
        problem: Exception | None = None
        with ffmpeg_log() as lines:
            try:
                with cuda_context(number) as options:
                    _open_devices[number] = accelerator(number, options).create(av.Codec("h264", "r"))
            except (av.error.FFmpegError, NotImplementedError, RuntimeError, AssertionError) as error:
                problem = error
    return "" if problem is None else "; ".join(lines) or str(problem)


def why_no_hardware(stream: Any) -> str:
    """Why no GPU can decode a video stream with the decoder that FFmpeg has for it; "" where one may."""
    codec = stream.codec_context.codec
    if any(config.device_type.name == ON_DEVICE and config.is_supported for config in codec.hardware_configs):
        return ""
    return f"FFmpeg's decoder {codec.name} has no hardware decoding"


def accelerator(number: int, options: dict[str, object]) -> Any:
    """PyAV's settings for NVDEC: frames stay on the device, and what the hardware cannot decode the CPU does."""
    from av.codec.hwaccel import HWAccel

    return HWAccel(ON_DEVICE, device=number, allow_software_fallback=True, options=dict(options), is_hw_owned=True)


@contextmanager
def cuda_context(number: int) -> Iterator[dict[str, object]]:
    """FFmpeg's options under which it shares a device's context with torch, so that both see the same memory.

    FFmpeg makes the primary context in its own way, or joins one that was made like that. It refuses torch's
    ("incompatible flags"), but takes that as the thread's current context; torch makes it current at its first work
    in a thread.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        yield {"primary_ctx": "1"}
        return
    with torch.cuda.device(number):
        torch.zeros(1, device=f"cuda:{number}")
        torch.cuda.synchronize(number)
        yield {"primary_ctx": "0", "current_ctx": "1"}


@contextmanager
def ffmpeg_log() -> Iterator[list[str]]:
    """What FFmpeg says of errors meanwhile, a line each; PyAV's settings for its log are as before afterwards."""
    import av

    before = av.logging.get_level()
    said: list[str] = []
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as lines:
            try:
                yield said
            finally:
                said += list(dict.fromkeys(text.strip() for _, _, text in lines))
    finally:
        av.logging.set_level(before)
