"""The part of `benchmarks/training.py` that needs a CUDA device: step time, utilisation, bf16, `torch.compile`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from training_cases import Case
from training_clips import Shape, split_of, write_clips
from training_loops import our_trainer, peer

from mmsa.batching import shuffled_batches

VARIANTS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bf16": {"precision": "bf16"},
    "compiled": {"compile": True},
}
WARM_UP = 12
PROFILED = 10


class Lines(Protocol):
    """What the report offers."""

    def add(self, *lines: str) -> None:
        """Print and keep."""

    def table(self, *names: str) -> None:
        """Open a table."""

    def row(self, *cells: object) -> None:
        """Add a row."""


def gpu_section(report: Lines, folder: Path, cases: Sequence[Case], clips: int) -> None:
    """The section, or one sentence that says why it is empty."""
    report.add("", "## On a GPU")
    if not torch.cuda.is_available():
        report.add("", "Not run here: torch sees no CUDA device.")
        return
    report.add("", f"{torch.cuda.get_device_name()}; features resident on the device; medians over an epoch's updates.")
    measure_all(report, folder, cases, clips, torch.device("cuda"))


def measure_all(report: Lines, folder: Path, cases: Sequence[Case], clips: int, device: torch.device) -> None:
    """One row per head and variant."""
    report.table(
        "head", "variant", "ms per update", "clips/s", "peer clips/s", "ratio", "device busy", "peak MB", "most time in"
    )
    for case in cases:
        shape = Shape(clips=clips, aligned=case.aligned)
        if not (folder / shape.name).is_dir():
            write_clips(folder, shape)
        theirs = peer(case, folder, shape, epochs=2, steps=None, device=device)
        rate = theirs["clips"] / theirs["wall"][-1]
        for name, settings in VARIANTS.items():
            own = measure(case, folder, shape, device, settings)
            own_rate = own["clips"] / own["seconds"]
            cells = (f"{own['median'] * 1e3:.2f}", f"{own_rate:,.0f}", f"{rate:,.0f}", f"{own_rate / rate:.2f}")
            report.row(case.name, name, *cells, f"{own['busy']:.0%}", f"{own['megabytes']:,.0f}", own["most"])


def measure(case: Case, folder: Path, shape: Shape, device: torch.device, settings: dict[str, Any]) -> dict[str, Any]:
    """One epoch after some updates to warm up (compilation happens there), then a profile of a few updates."""
    torch.compiler.reset()
    train, _ = split_of(folder, shape, device=device)
    trainer = our_trainer(case, train, shape, device, epochs=3, **settings)

    def plan(seed: int) -> list[Any]:
        return shuffled_batches(train.lengths, case.batch, np.random.default_rng(seed), bucketing=True)

    for index in (plan(0) * WARM_UP)[:WARM_UP]:
        trainer.step([index])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    batches = plan(1)
    times = [_seconds(lambda index=index: trainer.step([index]), device) for index in batches]
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0.0
    busy, most = profile(lambda: [trainer.step([index]) for index in batches[:PROFILED]], device)
    return {
        "median": statistics.median(times),
        "seconds": sum(times),
        "clips": len(train),
        "megabytes": peak,
        "busy": busy,
        "most": most,
    }


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def profile(function: Callable[[], object], device: torch.device) -> tuple[float, str]:
    """The share of the time in which the device computed, and the operator that it computed longest for."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as found:
        wall = _seconds(function, device)
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    spent = {event.key: float(getattr(event, key)) for event in found.key_averages()}
    most = max(spent, key=lambda name: spent[name])
    total: Tensor | float = sum(spent.values())
    return float(total) / 1e6 / wall, most.split("(")[0][:40]
