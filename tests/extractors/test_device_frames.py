"""Frames as tensors: against colours worked out by hand, against swscale, turned, odd, of ten bits.

All on the CPU: the arithmetic is that of a GPU's frames, whose layouts (NV12, P010) swscale makes here.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from extractors.device_frames import DeviceFrames, planes, resample
from extractors.frame_sampler import FrameSampler, UprightFrames
from extractors.media import MediaFile

LIMITED, FULL = 1, 2
BT709, BT601, BT2020 = 1, 5, 9
HARDWARE_LAYOUTS = {"nv12": "yuv420p", "p010le": "yuv420p10le", "p016le": "yuv420p12le"}


def flat_frame(
    y: int, u: int, v: int, layout: str = "yuv420p", size: tuple[int, int] = (32, 16), space: int = 2, span: int = 0
) -> av.VideoFrame:
    """One colour, given in the layout's own samples."""
    frame = av.VideoFrame(*size, layout)
    levels = [[y], [u], [v]] if len(frame.planes) == 3 else [[y], [u, v]]
    for plane, level in zip(frame.planes, levels, strict=True):
        kind = np.uint8 if layout in ("yuv420p", "yuvj420p", "nv12") else np.uint16
        count = plane.buffer_size // np.dtype(kind).itemsize // len(level)
        plane.update(np.tile(np.array(level, kind), count).tobytes())
    frame.colorspace, frame.color_range = space, span
    return frame


def photograph(image: np.ndarray, layout: str, width: int, height: int) -> av.VideoFrame:
    cut = np.ascontiguousarray(image[:height, :width])
    return av.VideoFrame.from_ndarray(cut, format="rgb24").reformat(format=layout)


def tensor_of(frame: av.VideoFrame, side: int = 4096, aspect: float = 1.0, codec: str = "") -> np.ndarray:
    return DeviceFrames(side, aspect, "cpu", codec).convert(frame).numpy()


@cache
def film(image: bytes, codec: str) -> bytes:
    """The photograph of 512 × 512 as a film of one frame."""
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as container:
        stream = container.add_stream(codec, 5, options={"x265-params": "log-level=none"} if codec == "libx265" else {})
        stream.width = stream.height = 512
        stream.pix_fmt = {"libx265": "yuv420p10le", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        picture = np.frombuffer(image, np.uint8).reshape(512, 512, 3)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return out.getvalue()


# By hand: 255/219 (Y - 16) + 255/224 · 2 (1 - Kr) (V - 128) and so on; full range without the fractions and the 16.
@pytest.mark.parametrize(
    ("yuv", "space", "span", "expected"),
    [
        ((16, 128, 128), BT601, LIMITED, (0, 0, 0)),
        ((235, 128, 128), BT601, LIMITED, (255, 255, 255)),
        ((126, 128, 128), BT601, LIMITED, (128, 128, 128)),  # 110 · 255/219 = 128.08
        ((126, 128, 128), BT601, FULL, (126, 126, 126)),
        ((0, 128, 128), BT601, FULL, (0, 0, 0)),
        ((255, 128, 128), BT601, FULL, (255, 255, 255)),
        ((81, 90, 240), BT601, LIMITED, (254, 0, 0)),  # red: 75.68 + 1.5960 · 112 = 254.4
        ((145, 54, 34), BT601, LIMITED, (0, 255, 1)),  # green: 150.2 + 0.3918 · 74 + 0.8130 · 94 = 255.6
        ((41, 240, 110), BT601, LIMITED, (0, 0, 255)),  # blue: 29.1 + 2.0172 · 112 = 255.04
        ((63, 102, 240), BT709, LIMITED, (255, 1, 0)),  # 54.73 + 1.7927 · 112 = 255.5; green 54.73 + 5.54 - 59.69
        ((173, 42, 26), BT709, LIMITED, (0, 255, 1)),  # 182.8 + 0.2132 · 86 + 0.5329 · 102 = 255.5
        ((32, 240, 118), BT709, LIMITED, (1, 0, 255)),  # 18.63 - 1.7927 · 10 = 0.7; 18.63 + 2.1124 · 112 = 255.2
        ((100, 128, 150), BT2020, LIMITED, (135, 83, 98)),  # 97.81 + 1.6787 · 22; - 0.65042 · 22; 97.81
        ((100, 150, 128), BT601, FULL, (100, 92, 139)),  # - 0.34414 · 22; 1.772 · 22
        ((100, 128, 150), 2, 0, (133, 80, 98)),  # nothing said: BT.601, limited
    ],
)
@pytest.mark.parametrize("layout", ["yuv420p", "nv12"])
def test_colours_by_hand(
    yuv: tuple[int, int, int], space: int, span: int, expected: tuple[int, int, int], layout: str
) -> None:
    found = tensor_of(flat_frame(*yuv, layout, space=space, span=span))
    assert found.shape == (16, 32, 3)
    assert (found == np.array(expected)).all()


def test_yuvj_is_full_range_whatever_else_is_said() -> None:
    assert (tensor_of(flat_frame(126, 128, 128, "yuvj420p", span=0)) == 126).all()


@pytest.mark.parametrize(("layout", "shift"), [("yuv420p10le", 2), ("yuv420p12le", 4), ("p010le", 8), ("p016le", 8)])
def test_more_bits_lie_between_the_levels_of_eight(layout: str, shift: int) -> None:
    """Y = 126 + 1/2: (110.5) · 255/219 = 128.66, which is 129 and not the 128 of Y = 126 in eight bits."""
    low, grey = 126 << shift, 128 << shift
    assert (tensor_of(flat_frame(low, grey, grey, layout)) == 128).all()
    assert (tensor_of(flat_frame(low + (1 << shift - 1), grey, grey, layout)) == 129).all()


@pytest.mark.parametrize("layout", ["yuv420p", "nv12", "yuv420p10le", "p010le", "yuv420p12le", "p016le"])
@pytest.mark.parametrize(("side", "aspect"), [(211, 1.0), (256, 1.0), (256, 1.5), (300, 0.75)])
def test_scaled_as_swscale_does(astronaut: np.ndarray, layout: str, side: int, aspect: float) -> None:
    """At odd widths swscale computes exactly; at even ones by tables that are some levels off and darken by one."""
    frame = photograph(astronaut, layout, 510, 384)
    theirs = UprightFrames(side, aspect).convert(frame).astype(int)
    ours = tensor_of(frame, side, aspect).astype(int)
    assert ours.shape == theirs.shape
    apart = np.abs(ours - theirs)
    if theirs.shape[1] % 2:
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.03
    else:
        assert apart.max() <= 5
        assert apart.mean() < 1.6


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4", "libvpx-vp9", "mjpeg"])
def test_chroma_sits_where_each_codec_has_it(astronaut: np.ndarray, codec: str) -> None:
    """As swscale, which knows from the frame; a quarter of a sample aside is 20 of 255 and more at some edges."""
    with av.open(io.BytesIO(film(astronaut.tobytes(), codec))) as container:
        frame = next(container.decode(video=0))
        name = container.streams.video[0].codec_context.name
    for side in (211, 333):
        apart = np.abs(tensor_of(frame, side, codec=name).astype(int) - UprightFrames(side).convert(frame))
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.03


@pytest.mark.parametrize(("width", "height"), [(510, 384), (477, 333), (511, 384), (510, 333), (3, 3), (2, 2)])
def test_unscaled_as_swscale_does(astronaut: np.ndarray, width: int, height: int) -> None:
    frame = photograph(astronaut, "yuv420p", width, height)
    theirs = UprightFrames(4096).convert(frame).astype(int)
    apart = np.abs(tensor_of(frame).astype(int) - theirs)
    assert theirs.shape == (height, width, 3)
    assert apart.max() <= (1 if width % 2 and height % 2 else 4)


@pytest.mark.parametrize("layout", HARDWARE_LAYOUTS)
@pytest.mark.parametrize("side", [4096, 200])
def test_a_gpus_layout_gives_the_same_as_the_cpus(astronaut: np.ndarray, layout: str, side: int) -> None:
    planar = photograph(astronaut, HARDWARE_LAYOUTS[layout], 480, 320)
    interleaved = planar.reformat(format=layout)
    if layout != "nv12" or side == 200:
        assert np.array_equal(tensor_of(interleaved, side), tensor_of(planar, side))
    assert all(torch.equal(a, b) for a, b in zip(planes(interleaved)[1:], planes(planar)[1:], strict=True)) == (
        layout == "nv12"  # the others keep their bits elsewhere in the sample
    )


def test_odd_nv12_lacks_its_last_chroma() -> None:
    """PyAV's tensors end one short: the last column and row are their neighbours'."""
    frame = flat_frame(100, 90, 170, "nv12", size=(7, 5))
    y, u, v = planes(frame)
    assert (y.shape, u.shape, v.shape) == ((5, 7), (2, 3), (2, 3))
    assert (u == 90).all()
    assert (v == 170).all()
    u[1, 2] = 250  # the last one there is: it serves the corner from the fifth column and third row on
    blue = tensor_of(frame)[..., 2]
    assert blue.shape == (5, 7)
    assert blue[4, 6] == 255
    assert blue[0, 0] == blue[0, 6] == blue[4, 0] < 100


def test_planes_are_the_frames_own_memory() -> None:
    frame = flat_frame(100, 90, 170, size=(64, 32))
    y, _, _ = planes(frame)
    before = bytes(frame.planes[0])[:64]
    assert before == b"d" * 64
    y[0] = 7
    assert bytes(frame.planes[0])[:64] == b"\x07" * 64


@pytest.mark.parametrize(("angle", "turns"), [(0, 0), (90, 3), (180, 2), (270, 1)])
def test_rotated_films_come_upright(media: Callable[..., Path], astronaut: np.ndarray, angle: int, turns: int) -> None:
    cut = np.ascontiguousarray(astronaut[:120, 100:300])
    path = media("a.mp4", frames=[cut] * 4)
    if angle:
        set_rotation(path, angle)
    found: dict[str, np.ndarray] = {}
    for name, convert in (
        ("ours", DeviceFrames(99, 1.0, "cpu", "h264").convert),
        ("theirs", UprightFrames(99).convert),
    ):
        with MediaFile(path) as file:

            def keep(image: object, _: object, name: str = name) -> None:
                found.setdefault(name, np.asarray(image))

            file.decode(None, FrameSampler(5.0, 99, keep, convert=convert))
    assert found["ours"].shape == found["theirs"].shape == np.rot90(np.empty((59, 99, 3)), turns).shape
    assert np.abs(found["ours"].astype(int) - found["theirs"]).max() <= 1
    assert found["ours"].flags.c_contiguous


def set_rotation(path: Path, angle: int) -> None:
    """Write a clockwise rotation into the track header's matrix (ISO/IEC 14496-12, 8.3.2)."""
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[angle]
    data = bytearray(path.read_bytes())
    box = data.index(b"tkhd")
    matrix = struct.pack(">9i", cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    data[box + 44 : box + 80] = matrix
    path.write_bytes(data)


@pytest.mark.parametrize("layout", ["yuv444p", "rgb24", "gray", "yuv422p10le"])
def test_other_layouts_are_swscales(astronaut: np.ndarray, layout: str) -> None:
    frame = photograph(astronaut, layout, 200, 100)
    assert np.array_equal(tensor_of(frame, 64), UprightFrames(64).convert(frame))


def naive(line: np.ndarray, count: int) -> np.ndarray:
    """Each new sample is the mean of the stretch it covers, in a thousandth of a sample's steps."""
    fine = np.repeat(line, count)  # as many sub-samples per new sample as there were samples
    return fine.reshape(count, len(line)).mean(axis=1)


@given(st.lists(st.floats(0, 255, width=32), min_size=1, max_size=40), st.integers(1, 40))
def test_scaling_down_is_the_mean_of_what_is_covered(levels: list[float], count: int) -> None:
    line = np.array(levels, np.float32)
    if count > len(line):
        return
    rows = resample(torch.from_numpy(np.tile(line[:, None], (1, 3))), count, 0)
    columns = resample(torch.from_numpy(np.tile(line, (2, 1))), count, 1)
    assert np.allclose(rows.numpy(), np.tile(naive(line, count)[:, None], (1, 3)), atol=1e-3)
    assert np.allclose(columns.numpy(), np.tile(naive(line, count), (2, 1)), atol=1e-3)


def test_looking_a_quarter_on() -> None:
    """A quarter of each sample's neighbour; at the edge there is none but itself."""
    found = resample(torch.tensor([[0.0], [100.0], [20.0]]), 3, 0, shift=0.25)
    assert found.flatten().tolist() == [25.0, 80.0, 20.0]


def test_scaling_up_is_linear_between_centres() -> None:
    """Two samples to four: centres at 1/4, 3/4, 5/4, 7/4 of two at 1/2 and 3/2; beyond those nothing is added."""
    found = resample(torch.tensor([[0.0, 100.0]]), 4, 1)
    assert found.tolist() == [[0.0, 25.0, 75.0, 100.0]]
