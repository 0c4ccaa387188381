"""Extraction on a GPU: NVDEC against the CPU's decoder, PyAV against torchcodec, a ViT-B from film to features.

    python benchmarks/extraction_gpu.py [--seconds 60] [--heights 720,1080] [--repeats 3] [--device cuda]

The films are made first: a photograph of a face that moves over a moving pattern, in H.264 at 30 frames per second. All
ways of a table read the same film in the same run, once to warm up and then `--repeats` times; the median counts, and
every ratio is to the first line of its table.

- Decoding: every frame decoded and none looked at; every frame as RGB where it is decoded (by `extractors`, and by
  torchcodec where it is importable); ten frames a second, fetched into memory for extractors that look there.
- End to end: `vision.transformers` on whole frames and `facial.transformers` on aligned crops, ten frames a second,
  with a ViT of base size and random weights.

Beside every line stands how busy the GPU and its decoder were, as nvidia-smi tells.

Needs a CUDA device; without one it says so and ends with 1. `--device cpu` goes through the same code with the lines
that need none, and `--tiny` with an encoder of a few thousand weights: that shows that it runs, not how fast.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import transformers

import extractors
from extractors.decoding import why_not
from extractors.device_frames import DeviceFrames
from extractors.frame_sampler import FrameSampler, UprightFrames
from extractors.media import MediaFile

FPS = 30
SAMPLED_PER_SECOND = 10.0
TOGETHER = 64
TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def main() -> int:
    """Run everything; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--heights", default="720,1080")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    if asked.device != "cpu" and (not torch.cuda.is_available() or (reason := why_not(asked.device))):
        said = why_not(asked.device) if not torch.cuda.is_available() else reason
        print(f"Not run: no CUDA device for torch and FFmpeg ({said}). --device cpu shows that the script runs.")
        return 1
    print(f"# Extraction on {torch.cuda.get_device_name(asked.device) if asked.device != 'cpu' else 'the CPU alone'}")
    print(
        f"\nPyAV {av.__version__}, torch {torch.__version__}; films of {asked.seconds:g} s at {FPS} frames per second."
    )
    with tempfile.TemporaryDirectory() as folder:
        for height in map(int, asked.heights.split(",")):
            film = make_film(Path(folder) / f"{height}.mp4", height, asked.seconds)
            table(f"Decoding, {height}p", decoding_ways(film, asked.device), asked.repeats, round(asked.seconds * FPS))
            vit = make_vit(Path(folder) / "vit", TINY if asked.tiny else {})
            ways = encoding_ways(film, vit, asked.device)
            table(f"ViT-{'tiny' if asked.tiny else 'B'} end to end, {height}p", ways, asked.repeats, asked.seconds)
    return 0


# The films and the encoder


def make_film(path: Path, height: int, seconds: float) -> Path:
    """A face that wanders over a pattern that drifts, so that there is something to decode."""
    from skimage.data import astronaut

    width = height * 16 // 9 // 2 * 2
    face = astronaut()[:384, 64:384]
    y, x = np.mgrid[0:height, 0 : width + FPS * 4]
    pattern = np.stack([x % 251, y % 241, (x * y // 64) % 239], axis=2).astype(np.uint8)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(round(seconds * FPS)):
            drift = number * 4 % (FPS * 4)
            picture = pattern[:, drift : drift + width].copy()
            left = round((width - 320) * (0.5 + 0.3 * np.sin(number / 40)))
            top = max(0, height - 384) // 2
            picture[top : top + 384, left : left + 320] = face[: height - top]
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def make_vit(folder: Path, sizes: dict[str, int]) -> Path:
    """A ViT of base size with random weights, and the image processor that ViTs have."""
    if not folder.is_dir():
        torch.manual_seed(0)
        transformers.ViTModel(transformers.ViTConfig(**sizes)).save_pretrained(folder)
        prepared = {
            "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 224, "width": 224},
            "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        }  # fmt: skip
        (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    return folder


# What is compared


@dataclass
class Way:
    """One line of a table.

    Attributes:
        name: what it says.
        run: does it once; returns how many frames were decoded or steps made, which must be what the others give.
        said: what came up on the way.
    """

    name: str
    run: Callable[[], int]
    said: set[str] = field(default_factory=set)


class Sink:
    """Takes every frame and looks at none, or converts it."""

    def __init__(self, convert: Callable[[Any], Any] | None = None) -> None:
        self.frames, self.end_seconds, self.done, self._convert = 0, 0.0, False, convert

    def feed(self, frame: Any, seconds: float | None) -> None:
        """See `extractors.decode_pass.Feed`."""
        self.frames += 1
        if self._convert is not None:
            self._convert(frame)

    def wants(self, start_seconds: float, end_seconds: float) -> bool:
        """All of them."""
        return True

    def lose(self, end_seconds: float | None) -> None:
        """The counts of frames would differ."""

    def finish(self) -> None:
        """See `extractors.decode_pass.Feed`."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def decoding_ways(film: Path, device: str) -> list[Way]:
    """Every frame, by each decoder and to each place."""
    gpu = [] if device == "cpu" else [device]
    ways = [decoding_way(f"PyAV on {on}, not looked at", film, on, Sink) for on in ("cpu", *gpu)]
    for on, to in [("cpu", "cpu"), *(("cpu", one) for one in gpu), *((one, one) for one in gpu)]:
        made = DeviceFrames(8192, 1.0, to, "h264").convert
        ways.append(decoding_way(f"PyAV on {on}, RGB on {to}", film, on, lambda made=made: Sink(made)))
    ways.append(decoding_way("PyAV on cpu, RGB by swscale", film, "cpu", lambda: Sink(UprightFrames(8192).convert)))
    for on in ("cpu", *gpu):
        name = f"PyAV on {on}, {SAMPLED_PER_SECOND:g} a second by swscale"
        ways.append(decoding_way(name, film, on, lambda: FrameSampler(SAMPLED_PER_SECOND, 1280, lambda *_: None)))
    if reason := why_no_torchcodec():
        print(f"\nWithout torchcodec: {reason}")
        return ways
    places = ("cpu", *gpu)
    return [*ways, *(Way(f"torchcodec on {on}, RGB on {on}", lambda on=on: by_torchcodec(film, on)) for on in places)]


def why_no_torchcodec() -> str:
    """It needs FFmpeg's shared libraries of the system, and says so by what it raises when imported."""
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        return str(error).strip().splitlines()[0]
    return ""


def decoding_way(name: str, film: Path, device: str, make: Callable[[], Any]) -> Way:
    """The film through a feed, decoded on a device."""

    def run() -> int:
        feed = make()
        with MediaFile(film, device=device) as media:
            report = media.decode(None, feed)
        if report.fallback:
            way.said.add(report.fallback)
        return int(feed.frames)

    way = Way(name, run)
    return way


def by_torchcodec(film: Path, device: str) -> int:
    """Every frame as RGB on the device, some at a time."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(film), device=device)
    count = len(decoder)
    for start in range(0, count, TOGETHER):
        decoder.get_frames_in_range(start, min(start + TOGETHER, count))
    if device != "cpu":
        torch.cuda.synchronize()
    return count


def encoding_ways(film: Path, vit: Path, device: str) -> list[Way]:
    """From the film to a ViT's vectors."""
    settings = {"model": str(vit), "frames_per_second": SAMPLED_PER_SECOND, "device": device, "batch_size": 64}
    places = dict.fromkeys(("cpu", device))
    ways = [
        encoding_way(f"whole frames by Pillow, decoded on {on}", film, "vision.transformers", on, settings)
        for on in places
    ]
    if find_spec("torchvision") is not None:
        ways += [
            encoding_way(
                f"whole frames by torch, decoded on {on}",
                film,
                "vision.transformers",
                on,
                {**settings, "preparation": "torch"},
            )
            for on in places
        ]
    else:
        print("\ntorchvision is not importable: frames prepared by torch are left out.")
    return ways + [
        encoding_way(f"crops of the face, decoded on {on}", film, "facial.transformers", on, settings) for on in places
    ]


def encoding_way(name: str, film: Path, extractor: str, device: str, settings: dict[str, Any]) -> Way:
    """The film through an extractor that is loaded once."""
    built = extractors.build(extractor, **settings)

    def run() -> int:
        found = extractors.extract(film, {"vision": built}, device=device)
        way.said.update(found.notes)
        return len(found.sequences["vision"])

    way = Way(name, run)
    return way


# The tables


def table(title: str, ways: Sequence[Way], repeats: int, per: float) -> None:
    """Run and print.

    Args:
        title: of the table.
        ways: its lines.
        repeats: how often each is run after a first time.
        per: what is divided by the seconds of a run: frames or seconds of film.
    """
    unit = "frames/s" if isinstance(per, int) else "× real time"
    print(f"\n## {title}\n\n| way | {unit} | ratio | steps or frames | GPU busy | decoder busy |")
    print("|---|---|---|---|---|---|")
    first: float | None = None
    for way in ways:
        count = way.run()
        times = []
        with utilisation() as busy:
            for _ in range(repeats):
                start = time.perf_counter()
                again = way.run()
                times.append(time.perf_counter() - start)
                if again != count:
                    raise RuntimeError(f"{way.name}: {again} frames, and {count} before")
        rate = per / statistics.median(times)
        first = first or rate
        print(
            f"| {way.name} | {rate:,.1f} | {rate / first:.2f} | {count} | {busy.told(0)} | {busy.told(1)} |", flush=True
        )
        for said in sorted(way.said):
            print(f"| ↳ {said} | | | | | |")


class Busy:
    """What nvidia-smi told: per cent of the time in which the GPU computed, and its decoder decoded."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []

    def told(self, which: int) -> str:
        """The mean, or a dash where nothing was told."""
        return f"{statistics.fmean(sample[which] for sample in self.samples):.0f} %" if self.samples else "–"


@contextmanager
def utilisation() -> Iterator[Busy]:
    """Ask five times a second, meanwhile."""
    busy = Busy()
    command = [
        "nvidia-smi",
        "--query-gpu=utilization.gpu,utilization.decoder",
        "--format=csv,noheader,nounits",
        "-lms",
        "200",
    ]
    try:
        asking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except FileNotFoundError:
        yield busy
        return

    def listen() -> None:
        assert asking.stdout is not None
        for line in asking.stdout:
            parts = line.strip().split(",")
            if len(parts) == 2 and all(part.strip().isdigit() for part in parts):
                busy.samples.append((float(parts[0]), float(parts[1])))

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield busy
    finally:
        asking.terminate()
        asking.wait()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
