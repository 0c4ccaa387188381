"""How fast and how small training is, against the loop of the toolkit that the field uses (MMSA), in one run.

    python benchmarks/training.py [--quick] [--heads MulT,LMF] [--threads 1] [--output FILE.md]

Both loops train the same head (one of ours, at MMSA's sizes for CMU-MOSI as far as its constructor takes them), with
the same batch size, optimiser, loss and gradient clipping, on the same clips: MOSI's 1,284 training clips, the words
of each read from `$MMSA_DATA/mosi/label.csv` where that is there (else drawn from a log-normal fitted to them), audio
at 20 steps and vision at 15 steps per second of 0.35 s a word, features random around a direction that tells the label.

The peer's loop, restated here in our own words: every modality padded with zeros to a fixed length (text 50, audio 375,
vision 500; on aligned data 50 in all) and cut there; a data set of per-item dictionaries in a loader without workers;
every batch moved to the device; padded steps fed as real ones; predictions and labels kept in lists, not detached,
until the epoch ends. Our loop is `mmsa.training`'s: memory-mapped features, batches of like length gathered by index,
masked padding, denormal numbers flushed to zero, a fused optimiser.

What differs from MMSA itself, in both loops alike: the heads are ours; audio and vision are read step by step where
MMSA's LF-DNN, LMF and TFN average them first; EF-LSTM and MFN get aligned data, as in MMSA, in which audio and vision
have the words' steps; the row "EF-LSTM, grid" is the same head on unaligned data, which it puts on a grid of 50 steps
in both loops, so that there real lengths save it little. MulT updates after every batch of 16, where MMSA adds up 8;
the peer's epoch of it is cut after 12 updates, as the graphs it keeps grow by a quarter of a gigabyte with each (so its
peak is that of 12 updates, not of an epoch's 81, which would be far more). Ours is always the whole epoch.

Every figure comes from a fresh process. Speed: clips per second of an epoch, median over epochs (the peer's on
unaligned data: one epoch, which takes minutes), ours after one to warm up; also by processor time, which other work
on the machine moves less. Peak memory: the highest resident memory of whole epochs beyond what was resident after
imports and after the data was built ("loop alone"), and the data: padded arrays there, which stay in memory as long as
the loop runs, and memory maps here, counted as if all of their pages were resident. The target is judged on both
together, as what a training needs. Ours is all of `mmsa.training.fit`, validation and the copy of the best weights
included. Predictions: the same weights over both data paths with the padded lengths honoured, so that speed is not
bought with a different model. Growth: exponents of a least-squares line through logarithms; 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from training_cases import CASES, Case
from training_clips import MOSEI, Shape, words_per_clip, write_clips
from training_loops import describe_job, run_job

CLIP_COUNTS = (1437, 2874, 5748, 11496, 22992)
LENGTH_FACTORS = (1.0, 2.0, 4.0)
LENGTH_CLIPS = 256
SAME_CLIPS = 256
START_UPS = 3


class Lab:
    """Runs jobs in fresh processes, on data that is made once."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder = folder
        self.threads = threads

    def run(self, kind: str, case: Case, shape: Shape, **more: Any) -> dict[str, Any]:
        """One job."""
        if not (self.folder / shape.name).is_dir():
            write_clips(self.folder, shape)
        job = describe_job(kind, case, self.folder, shape, self.threads, more)
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}
        command = [sys.executable, __file__, "--child", json.dumps(job)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the job {kind} of {case.name} failed with exit code {done.returncode}")
        return dict(json.loads(done.stdout.splitlines()[-1]))


class Report:
    """Prints lines as they come and keeps them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, *lines: str) -> None:
        """Print and keep."""
        self.lines += lines
        print("\n".join(lines), flush=True)

    def table(self, *names: str) -> None:
        """Open a table; the first column is text."""
        self.add("", f"| {' | '.join(names)} |", f"| --- |{' ---: |' * (len(names) - 1)}")

    def row(self, *cells: object) -> None:
        """A row of the open table."""
        self.add(f"| {' | '.join(map(str, cells))} |")


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of the least-squares line through the logarithms."""
    x, y = [math.log(size) for size in sizes], [math.log(max(cost, 1e-9)) for cost in costs]
    return statistics.linear_regression(x, y).slope


def verdict(value: float, target: float | None, *, at_least: bool) -> str:
    """A figure beside its target."""
    if target is None:
        return f"{value:.2f}"
    met = value >= target if at_least else value <= target
    return f"{value:.2f} ({'≥' if at_least else '≤'} {target:g}{'' if met else ', missed'})"


def compare(lab: Lab, report: Report, cases: Sequence[Case], clips: int, epochs: int) -> None:
    """Both loops, head by head."""
    report.add("", "## The peer's loop and ours")
    speed = ("clips/s peer", "clips/s ours", "ratio", "by processor time")
    memory = ("peak MB peer", "peak MB ours", "share", "loop alone MB peer", "loop alone MB ours")
    report.table("head", "batch", *speed, *memory, "largest difference of predictions", "padding ours", "load")
    for case in cases:
        shape = Shape(clips=clips, aligned=case.aligned)
        repeats = epochs if case.aligned else 1  # unaligned, an epoch of the peer takes minutes, its updates all alike
        theirs = lab.run("peer", case, shape, epochs=repeats, steps=case.peer_steps, device="cpu")
        own = lab.run("ours", case, shape, epochs=epochs, steps=None, device="cpu")
        whole = lab.run("memory", case, shape, epochs=2)
        same = lab.run("same", case, replace(shape, clips=min(clips, SAME_CLIPS)))
        wall, processor = (
            [run["clips"] / statistics.median(run[key]) for run in (theirs, own)] for key in ("wall", "processor")
        )
        sizes = [run["megabytes"] + run["data_megabytes"] for run in (theirs, whole)]
        report.row(
            case.name,
            case.batch,
            f"{wall[0]:,.1f}",
            f"{wall[1]:,.1f}",
            verdict(wall[1] / wall[0], case.faster, at_least=True),
            f"{processor[1] / processor[0]:.2f}",
            *(f"{size:,.0f}" for size in sizes),
            verdict(sizes[1] / sizes[0], case.memory, at_least=False),
            *(f"{run['megabytes']:,.0f}" for run in (theirs, whole)),
            f"{same['difference']:.1e} of {same['spread']:.2g}",
            f"{whole['padding']:.0%}",
            f"{os.getloadavg()[0]:.1f}",
        )


def data_path(lab: Lab, report: Report, cases: Sequence[Case], clips: int) -> None:
    """Start-up, and what cutting batches costs."""
    report.add("", "## Start-up and data path")
    report.add("", "Start-up: from the end of the imports (feature tables on disk) to the end of the first update.")
    report.table(
        *("head", "start-up s", "of it before the step", "deferred imports s before it"),
        *("cutting batches", "normalising", "loading in the peer's loop"),
    )
    for case in cases:
        shape = Shape(clips=clips, aligned=case.aligned)
        starts = [lab.run("start", case, shape) for _ in range(START_UPS)]
        steps = max(1, 1284 // case.batch // 8)
        theirs = lab.run("peer", case, shape, epochs=1, steps=steps, device="cpu")
        own = lab.run("ours", case, shape, epochs=1, steps=None, device="cpu")
        seconds = statistics.median(start["seconds"] for start in starts)
        report.row(
            case.name,
            f"{seconds:.2f}{'' if seconds < 1 else ' (< 1, missed)'}",
            f"{statistics.median(start['opened'] for start in starts):.2f}",
            f"{statistics.median(start['imports'] for start in starts):.2f}",
            f"{own['gather']:.1%}{'' if own['gather'] < 0.1 else ' (< 10 %, missed)'}",
            f"{own['prepare']:.1%}",
            f"{theirs['loading']:.1%}",
        )


def growth_with_clips(lab: Lab, report: Report, case: Case, counts: Sequence[int]) -> None:
    """MOSEI's sizes."""
    report.add("", f"## Growth with the number of clips ({case.name}, MOSEI's feature sizes)")
    report.table("clips", "processor s per epoch", "peak MB", "data MB (memory-mapped)")
    found = []
    for count in counts:
        shape = Shape(clips=count, aligned=case.aligned, dims=tuple(MOSEI.items()))
        result = lab.run("memory", case, shape, epochs=2)
        found.append((statistics.median(result["processor"]), result["megabytes"]))
        report.row(f"{count:,}", f"{found[-1][0]:.2f}", f"{found[-1][1]:,.0f}", f"{result['data_megabytes']:,.0f}")
    times, peaks = zip(*found, strict=True)
    report.add(
        "", f"Time grows with exponent {exponent(counts, times):.2f}, peak memory with {exponent(counts, peaks):.2f}."
    )


def growth_with_length(lab: Lab, report: Report, cases: Sequence[Case], factors: Sequence[float], clips: int) -> None:
    """All clips longer, nothing cut."""
    report.add(
        "",
        f"## Growth with sequence length ({clips} clips, MOSI's lengths times {', '.join(f'{f:g}' for f in factors)})",
    )
    report.table(
        "head",
        *(f"processor s at ×{f:g}" for f in factors),
        "time ~ T^",
        *(f"MB at ×{f:g}" for f in factors),
        "memory ~ T^",
    )
    for case in cases:
        runs = []
        for factor in factors:
            shape = Shape(clips=clips, aligned=case.aligned, factor=factor, limited=False)
            runs.append(lab.run("memory", case, shape, epochs=2))
        times = [statistics.median(run["processor"]) for run in runs]
        peaks = [run["megabytes"] for run in runs]
        report.row(
            case.name,
            *(f"{value:.2f}" for value in times),
            f"{exponent(factors, times):.2f}",
            *(f"{value:,.0f}" for value in peaks),
            f"{exponent(factors, peaks):.2f}",
        )


def main() -> None:
    """Run everything, or one child's job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", help="names of rows, with commas between (EF-LSTM, LF-DNN, LMF, TFN, MFN, MulT …)")
    parser.add_argument("--quick", action="store_true", help="few clips and epochs: shows that it runs, no figures")
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--only", default="compare,data,clips,length,gpu", help="parts, with commas between")
    parser.add_argument("--output", type=Path, help="also write the report here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run_job(json.loads(options.child))))
        return
    names = options.heads.split(",") if options.heads else list(CASES)
    if unknown := sorted(set(names) - set(CASES)):
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(CASES)}")
    cases, parts = [CASES[name] for name in names], options.only.split(",")
    if unknown := sorted(set(parts) - {"compare", "data", "clips", "length", "gpu"}):
        parser.error(f"no such part: {', '.join(unknown)}; there are compare, data, clips, length, gpu")
    report = Report()
    import torch

    clips, epochs = (160, 1) if options.quick else (1284, options.epochs)
    report.add(
        f"`python benchmarks/training.py {' '.join(sys.argv[1:])}`".replace(" `", "`"),
        "",
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} shared cores, "
        f"{options.threads} thread(s); {clips} clips, {words_per_clip()[1]}.",
    )
    with tempfile.TemporaryDirectory(prefix="mmsa-training-") as folder:
        lab = Lab(Path(folder), options.threads)
        if "compare" in parts:
            compare(lab, report, cases, clips, epochs)
        if "data" in parts:
            data_path(lab, report, cases, clips)
        if "clips" in parts:
            growth_with_clips(lab, report, CASES["LMF"], CLIP_COUNTS if not options.quick else (100, 200))
        if "length" in parts:
            factors = LENGTH_FACTORS if not options.quick else LENGTH_FACTORS[:2]
            growth_with_length(lab, report, cases, factors, LENGTH_CLIPS if not options.quick else 64)
        if "gpu" in parts:
            from training_gpu import gpu_section

            gpu_section(report, Path(folder), cases, clips)
    if options.output:
        options.output.write_text("\n".join(report.lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
