"""`DeviceFrames`: decoded frames as RGB tensors on a device; what a GPU decoded never leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from extractors.frame_sampler import UprightFrames, in_memory, upright_size

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Weights of red and blue in the luma of each of FFmpeg's colour spaces: ITU-R BT.709, FCC, BT.601 (both systems),
# SMPTE 240M, BT.2020 (non-constant luminance). Where a file does not say, swscale takes BT.601, and so do we.
LUMA_WEIGHTS: Mapping[int, tuple[float, float]] = {
    0: (0.299, 0.114),
    1: (0.2126, 0.0722),
    2: (0.299, 0.114),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
# What a sample is divided by to lie on the scale of 8 bits. P010 and P016 keep theirs in the upper bits.
_UNITS = {
    "yuv420p": 1, "yuvj420p": 1, "nv12": 1,
    "yuv420p10le": 4, "yuv420p12le": 16, "p010le": 256, "p016le": 256,
}  # fmt: skip
_FULL_RANGE = 2
# Codecs whose chroma sits on the left one of two pixels, unless a file says otherwise, which PyAV does not tell; and
# how far that is, in samples of chroma, from the middle, where FFmpeg leaves it with all others.
_LEFT_SITED = frozenset({"h264", "hevc", "mpeg2video", "mpeg4"})
_LEFT = 0.25


class DeviceFrames:
    """Turns decoded frames into pictures on a device: upright, with square pixels, in RGB.

    The planes of a frame that NVDEC decoded are taken where they lie, through DLPack; those of a frame from the CPU are
    moved to the device as they are, which is half of its RGB. The arithmetic is the same for both and on every device
    (to a grey level where a value lies between two): planes are scaled down by area, or interpolated linearly where
    chroma is scaled up, then converted with the matrix of the frame's colour space, in float32.

    It follows swscale, which makes the pictures of `UprightFrames`, in where chroma is shared: by four pixels in frames
    of 8 bits and even height that are not scaled, else by two neighbours in pictures of even width, by none in others.
    It does not follow the tables that swscale uses where chroma is shared, which darken by about a grey level. Measured
    on a photograph: without sharing equal but for 1 % of the values, which differ by one; with it up to 5 of 255, 1.4
    on average.

    4:2:0 of 8, 10 and 12 bits is converted so; of any other layout, and of colour spaces that are no matrix, the
    picture is `UprightFrames`'s, moved to the device.

    Args:
        max_side_pixels: frames are scaled down to fit; never up.
        aspect: width of a pixel over its height.
        device: of torch.
        codec: FFmpeg's name of it, which says where its chroma sits.
    """

    def __init__(self, max_side_pixels: int, aspect: float, device: str, codec: str = "") -> None:
        self._side, self._aspect, self._device = max_side_pixels, aspect, device
        self._shift = _LEFT if codec in _LEFT_SITED else 0.0
        self._in_memory = UprightFrames(max_side_pixels, aspect)

    def convert(self, frame: Any) -> Tensor:
        """`(H, W, 3)` uint8 on the device, of an `av.VideoFrame`."""
        import torch

        if torch.device(self._device).type != "cuda":
            frame = in_memory(frame)
        layout = (frame.sw_format or frame.format).name
        if layout not in _UNITS or frame.colorspace not in LUMA_WEIGHTS:
            return torch.from_numpy(self._in_memory.convert(frame)).to(self._device)
        with self._in_order():
            unit = _UNITS[layout]
            y, u, v = (plane.to(self._device).to(torch.float32, copy=True).div_(unit) for plane in planes(frame))
            u, v = _whole(u, y), _whole(v, y)
            size = upright_size(frame.width, frame.height, self._side, self._aspect)
            picture = _to_rgb(
                *_scaled(y, u, v, *size, share=unit == 1, shift=self._shift),
                *LUMA_WEIGHTS[frame.colorspace],
                full_range=layout == "yuvj420p" or frame.color_range == _FULL_RANGE,
            )
            turns = round(frame.rotation / 90) % 4
            return torch.rot90(picture, turns).contiguous() if turns else picture

    def _in_order(self) -> AbstractContextManager[Any]:
        """FFmpeg works on the device's default stream; work there begins when the planes are whole."""
        import torch

        device = torch.device(self._device)
        if device.type != "cuda":
            return nullcontext()
        return torch.cuda.stream(torch.cuda.default_stream(device))


def planes(frame: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Luma `(H, W)` and both chroma planes of a 4:2:0 frame, where they lie.

    Chroma is `(ceil(H / 2), ceil(W / 2))`, but rounded down in interleaved layouts: PyAV leaves the last row and column
    of odd ones out. The memory is the frame's: a tensor keeps it alive, and it is not to be written to.
    """
    from torch.utils.dlpack import from_dlpack

    # The capsules are asked for here, as torch would name a stream, which PyAV refuses.
    found = [from_dlpack(plane.__dlpack__()) for plane in frame.planes]
    if len(found) == 3:
        return found[0], found[1], found[2]
    y, both = found
    return y, both[..., 0], both[..., 1]


def _whole(chroma: Tensor, luma: Tensor) -> Tensor:
    """Chroma with its last row and column, which are taken to be like their neighbours where they were left out."""
    from torch.nn.functional import pad

    down, across = ((whole + 1) // 2 - half for whole, half in zip(luma.shape, chroma.shape, strict=True))
    return pad(chroma[None], (0, across, 0, down), mode="replicate")[0] if down or across else chroma


def _scaled(
    y: Tensor, u: Tensor, v: Tensor, width: int, height: int, *, share: bool, shift: float
) -> tuple[Tensor, Tensor, Tensor]:
    """All three planes `(height, width)`.

    Args:
        y: luma.
        u: chroma.
        v: chroma.
        width: of the picture.
        height: of the picture.
        share: whether four pixels share a sample of chroma where nothing is scaled.
        shift: where chroma sits, see `resample`.
    """
    luma = resample(resample(y, height, 0), width, 1)
    if share and tuple(y.shape) == (height, width) and height % 2 == 0:
        u, v = (_doubled(plane, 2, 2)[:, :width] for plane in (u, v))
        return luma, u, v
    pairs = width % 2 == 0
    across = width // 2 if pairs else width
    u, v = (resample(resample(plane, height, 0), across, 1, shift=shift) for plane in (u, v))
    if pairs:
        u, v = _doubled(u, 1, 2), _doubled(v, 1, 2)
    return luma, u, v


def _doubled(plane: Tensor, down: int, across: int) -> Tensor:
    """Each sample so many times; a copy, as `repeat_interleave` makes it, in a fraction of its time."""
    height, width = plane.shape
    spread = plane[:, None, :, None].expand(height, down, width, across)
    return spread.contiguous().view(height * down, width * across)


def _to_rgb(y: Tensor, u: Tensor, v: Tensor, red: float, blue: float, *, full_range: bool) -> Tensor:
    """`(H, W, 3)` uint8: ITU-R BT.601, section 2.5, solved for red, green and blue; the weights say of which standard.

    The planes are overwritten.
    """
    import torch

    if not full_range:
        y.sub_(16).mul_(255 / 219)
    scale = 1.0 if full_range else 255 / 224
    u.sub_(128).mul_(2 * (1 - blue) * scale)  # what blue has more than luma
    v.sub_(128).mul_(2 * (1 - red) * scale)
    green = 1 - red - blue
    picture = torch.empty((*y.shape, 3), dtype=torch.uint8, device=y.device)
    for channel, (of_u, of_v) in enumerate(((0.0, 1.0), (-blue / green, -red / green), (1.0, 0.0))):
        level = torch.add(y, u, alpha=of_u).add_(v, alpha=of_v) if of_u and of_v else y + (u if of_u else v)
        picture[..., channel] = level.round_().clamp_(0, 255)
    return picture


def resample(plane: Tensor, count: int, axis: int, *, shift: float = 0.0) -> Tensor:
    """Scale one axis to `count` samples: down by area, up by linear interpolation between centres.

    Args:
        plane: `(H, W)` float32.
        count: samples afterwards.
        axis: 0 or 1.
        shift: how many samples further on to look; beyond the edges lies what is at them.
    """
    if plane.shape[axis] == count and not shift:
        return plane
    index, weights = _taps_on(plane.device, plane.shape[axis], count, shift)
    share = weights.unsqueeze(2 - axis)  # (K, N, 1) or (K, 1, N)
    out = plane.index_select(axis, index[0]) * share[0]
    for k in range(1, len(index)):
        out.addcmul_(plane.index_select(axis, index[k]), share[k])
    return out


@lru_cache(maxsize=64)
def _taps_on(device: torch.device, before: int, after: int, shift: float) -> tuple[Tensor, Tensor]:
    """The same for each frame of a video: moved to the device once."""
    import torch

    places, weights = taps(before, after, shift)
    return torch.from_numpy(places).to(device), torch.from_numpy(weights).to(device)


def taps(
    before: int, after: int, shift: float = 0.0
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.float32]]]:
    """Which samples make each new one, and with which weight: `(K, after)` each; see `resample` for the arguments.

    Example:
        >>> places, weights = taps(3, 2)  # the sample in the middle counts half for either
        >>> places.T.tolist(), (weights.T * 3).round(3).tolist()
        ([[0, 1, 2], [1, 2, 2]], [[2.0, 1.0, 0.0], [1.0, 2.0, 0.0]])
    """
    width = before / after
    number = np.arange(after)
    if width < 1.0:
        middle = (number + 0.5) * width - 0.5 + shift
        first = np.floor(middle)
        places = first + np.arange(2)[:, None]
        weights = np.stack([1.0 - (middle - first), middle - first])
    else:
        start, end = number * before / after + shift, (number + 1) * before / after + shift
        places = np.floor(start) + np.arange(int(np.ceil(width)) + 1)[:, None]
        weights = np.clip(np.minimum(places + 1, end) - np.maximum(places, start), 0.0, None) / width
    return np.clip(places, 0, before - 1).astype(np.int64), weights.astype(np.float32)
