"""Which decoder is chosen, what is said where a GPU cannot be used, and, where there is one, that it really decodes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

import extractors
from extractors import decoding
from extractors.decoding import choose_device, cuda_context, device_number, ffmpeg_log, why_no_hardware, why_not
from extractors.device_frames import DeviceFrames
from extractors.errors import ToolError
from extractors.frame_sampler import FrameSampler, UprightFrames
from extractors.media import MediaFile

Make = Callable[..., Path]
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
REASON = "Cannot load libcuda.so.1"


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose FFmpeg finds no driver, whatever this one has."""
    monkeypatch.setattr(decoding, "why_not", lambda device: REASON)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def torch_with_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.mark.parametrize(
    ("device", "wanted", "chosen"),
    [
        ("cpu", None, "cpu"),
        ("cpu", "cuda", "cpu"),
        ("auto", None, "cpu"),  # frames would have to come back
        ("auto", "cpu", "cpu"),
        ("auto", "mps", "cpu"),
        ("auto", "cuda", "cuda"),
        ("auto", "cuda:1", "cuda:1"),
        ("cuda", None, "cuda"),
        ("cuda:1", "cuda", "cuda:1"),
    ],
)
def test_where_the_gpu_can_be_used(
    monkeypatch: pytest.MonkeyPatch, device: str, wanted: str | None, chosen: str
) -> None:
    monkeypatch.setattr(decoding, "why_not", lambda device: "")
    assert choose_device(device, wanted) == (chosen, "")


@pytest.mark.usefixtures("no_driver")
def test_where_there_is_none() -> None:
    """Nobody asked for it by name: the CPU, with the reason where the frames were to stay on the device."""
    assert choose_device("auto", None) == ("cpu", "")
    assert choose_device("auto", "cpu") == ("cpu", "")
    assert choose_device("auto", "cuda") == ("cpu", f"FFmpeg cannot use the CUDA device ({REASON})")
    assert choose_device("cpu", "cuda") == ("cpu", "")
    with pytest.raises(ToolError, match=rf"device='cuda:1' was asked for, .*{REASON}.*: use 'auto' or 'cpu'"):
        choose_device("cuda:1", None)


@pytest.mark.usefixtures("no_driver")
def test_a_device_that_only_ffmpeg_cannot_use_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    torch_with_a_device(monkeypatch)
    assert choose_device("cuda", None) == ("cpu", f"FFmpeg cannot use the CUDA device ({REASON})")
    with pytest.raises(ToolError, match="device='cuda:3' was asked for"):
        choose_device("cuda:3", None)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CUDA", "nvdec", ""])
def test_names_that_are_no_devices(device: str) -> None:
    with pytest.raises(ValueError, match=rf"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', not '{device}'"):
        choose_device(device, None)
    with pytest.raises(ValueError, match="is no CUDA device: 'cuda' or 'cuda:N'"):
        device_number(device)


@without_gpu
def test_ffmpeg_says_why_and_its_log_is_as_before() -> None:
    before = av.logging.get_level()
    assert "libcuda" in why_not("cuda")
    assert av.logging.get_level() == before
    assert decoding._open_devices == {}


def test_the_log_of_ffmpeg_is_caught_and_put_back() -> None:
    before = av.logging.get_level()
    said: list[str] = []

    def work() -> None:
        nonlocal said
        with ffmpeg_log() as said:
            av.logging.log(av.logging.ERROR, "mine", "no surface left\n")
            av.logging.log(av.logging.ERROR, "mine", "no surface left\n")
            av.logging.log(av.logging.INFO, "mine", "chatter\n")
            raise RuntimeError("that was it")

    with pytest.raises(RuntimeError, match="that was it"):
        work()
    assert said == ["no surface left"]
    assert av.logging.get_level() == before


def test_who_came_first_decides_whose_context_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg refuses torch's primary context by that name, but takes it as the current one of the thread."""
    monkeypatch.delitem(sys.modules, "torch")
    with cuda_context(0) as options:
        assert options == {"primary_ctx": "1"}
    done: list[object] = []
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        device=lambda number: nullcontext(done.append(("device", number))),
        synchronize=lambda number: done.append(("synchronize", number)),
    )
    monkeypatch.setitem(
        sys.modules, "torch", SimpleNamespace(cuda=cuda, zeros=lambda count, device: done.append(("work on", device)))
    )
    with cuda_context(1) as options:
        assert options == {"primary_ctx": "0", "current_ctx": "1"}
    assert done == [("device", 1), ("work on", "cuda:1"), ("synchronize", 1)]  # current in this thread by then


def test_settings_for_the_hardware() -> None:
    made = decoding.accelerator(1, {"current_ctx": "1", "primary_ctx": "0"})
    assert made.is_hw_owned  # else every frame would be fetched, whether it is sampled or not
    assert made.device_id == 1
    assert made.allow_software_fallback
    assert made.options == {"current_ctx": "1", "primary_ctx": "0"}


@pytest.mark.parametrize(
    ("name", "codec", "reason"),
    [
        ("a.mp4", "libx264", ""),
        ("a.mp4", "libx265", ""),
        ("a.webm", "libvpx-vp9", ""),
        ("a.mp4", "mpeg4", ""),
        ("a.mkv", "ffv1", "FFmpeg's decoder ffv1 has no hardware decoding"),
        ("a.mkv", "libsvtav1", "FFmpeg's decoder libdav1d has no hardware decoding"),
    ],
)
def test_codecs_that_no_gpu_decodes(media: Make, numbered: Callable, name: str, codec: str, reason: str) -> None:
    with MediaFile(media(name, frames=numbered(3), video_codec=codec)) as file:
        assert why_no_hardware(file.container.streams.video[0]) == reason


# On a GPU. None of these has been run yet: they were written on machines without one.

on_gpu = pytest.mark.skipif(not torch.cuda.is_available() or bool(why_not("cuda")), reason="needs NVDEC")


def looked_at(path: Path, device: str, convert: Callable) -> tuple[dict[int, object], str]:
    """Sampled frames by index, and why they were decoded on the CPU."""
    found: dict[int, object] = {}
    with MediaFile(path, device=device) as file:
        sampler = FrameSampler(5.0, 4096, lambda image, ks: found.update(dict.fromkeys(ks, image)), convert=convert)
        report = file.decode(None, sampler)
    return found, report.fallback


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
def test_nvdec_gives_the_cpus_pictures(media: Make, numbered: Callable, number_of: Callable, codec: str) -> None:
    """Fetched into memory they are the same to the last bit; each carries its number."""
    path = media("a.mkv", frames=numbered(50), video_codec=codec)
    ours, reason = looked_at(path, "cuda", UprightFrames(4096).convert)
    theirs, _ = looked_at(path, "cpu", UprightFrames(4096).convert)
    assert reason == ""
    assert {k: number_of(image) for k, image in ours.items()} == {k: 5 * k for k in range(10)}
    assert all(np.array_equal(ours[k], theirs[k]) for k in theirs)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("torch_first", [True, False])
def test_frames_stay_on_the_device(media: Make, numbered: Callable, torch_first: bool) -> None:
    """Converted there they are what the CPU's planes give there, but for roundings; whoever of the two came first."""
    import subprocess

    path = media("a.mp4", frames=numbered(25))
    program = f"""
import torch
{"torch.zeros(1, device='cuda')" if torch_first else ""}
from extractors.device_frames import DeviceFrames
from extractors.frame_sampler import FrameSampler
from extractors.media import MediaFile
found = {{}}
for device in ("cuda", "cpu"):
    kept = found.setdefault(device, [])
    with MediaFile({str(path)!r}, device=device) as file:
        made = DeviceFrames(160, 1.0, "cuda")
        planes = []
        def convert(frame):
            if device == "cuda":
                assert frame.format.name == "cuda", frame.format
                assert frame.planes[0].__dlpack_device__()[0] == 2
            return made.convert(frame)
        report = file.decode(None, FrameSampler(5.0, 160, lambda image, ks: kept.append(image), convert=convert))
        assert report.fallback == "", report
assert len(found["cuda"]) == len(found["cpu"]) == 5
for ours, theirs in zip(found["cuda"], found["cpu"]):
    assert ours.device.type == "cuda" and ours.dtype == torch.uint8
    assert (ours.int() - theirs.int()).abs().max() <= 1
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


@pytest.mark.gpu
@on_gpu
def test_ten_bits_stay_ten_bits(tmp_path: Path) -> None:
    """A ramp in P010 on the device, against the same file on the CPU."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx265", rate=5, options={"x265-params": "lossless=1:log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p10le"
        frame = av.VideoFrame(320, 240, "yuv420p10le")
        ramp = np.tile(np.arange(64, 64 + 320, dtype=np.uint16), 240)
        for plane, values in zip(frame.planes, (ramp, np.full(160 * 120, 512), np.full(160 * 120, 512)), strict=True):
            plane.update(values.astype(np.uint16).tobytes())
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    ours, reason = looked_at(path, "cuda", DeviceFrames(4096, 1.0, "cuda").convert)
    theirs, _ = looked_at(path, "cpu", DeviceFrames(4096, 1.0, "cpu").convert)
    assert reason == ""
    assert len(ours) == len(theirs) > 0
    assert all((ours[k].cpu().int() - theirs[k].int()).abs().max() <= 1 for k in theirs)


@pytest.mark.gpu
@on_gpu
def test_what_the_hardware_cannot_do_the_cpu_does(media: Make, numbered: Callable, number_of: Callable) -> None:
    """FFV1 has no hardware decoder; and H.264 of ten bits no GPU before 2025 decodes, so either way is right for it."""
    path = media("a.mkv", frames=numbered(25), video_codec="ffv1")
    found, reason = looked_at(path, "cuda", UprightFrames(4096).convert)
    assert {k: number_of(image) for k, image in found.items()} == {k: 5 * k for k in range(5)}
    assert reason == "FFmpeg's decoder ffv1 has no hardware decoding"
    colour = extractors.build("vision.colour")
    told = extractors.extract(path, {"vision": colour}, device="cuda")
    assert told.notes == (f"frames were decoded on the CPU: {reason}",)
    assert np.array_equal(
        told.sequences["vision"].values, extractors.extract(path, {"vision": colour}).sequences["vision"].values
    )


@pytest.mark.gpu
@on_gpu
def test_many_files_one_after_the_other(media: Make, numbered: Callable) -> None:
    """Surfaces and contexts are given back: the device's memory does not grow with the number of files."""
    path = media("a.mp4", frames=numbered(10))
    free = []
    for _ in range(12):
        looked_at(path, "cuda", DeviceFrames(64, 1.0, "cuda").convert)
        torch.cuda.synchronize()
        free.append(torch.cuda.mem_get_info()[0])
    assert free[-1] >= free[3] - 64 * 2**20
