"""How fast media are scored, against the sum of the stages' own costs; one process, several, and Ray.

    python benchmarks/scoring.py [--run RUN] [--files 8] [--seconds 60] [--jobs 2] [--quick] [--threads 1]

Files are made of the demo corpus's test clips, repeated to `--seconds` each with subtitles, and scored in windows of
10 s every 5 s. Without RUN a model (late fusion) is trained on the demo corpus first.

Two tables in one run, on the same files:

1. The stages' own costs. In one process, after a warm-up, one file is read with extractors that do nothing (decoding:
   demuxing, decoding, resampling, converting the sampled frames), then with each real one alone (its cost is the
   difference), then the model predicts all parts kept from before, then windows are smoothed, summarised and turned
   into a row. "All of it" is `Scorer.score_clip` on the same file. Decoding with all extractors runs on a thread
   beside the model: `all of it` against the sum says what that saves (on a machine with a core to spare). Median of
   `--repeats`, in seconds as they pass (wall) and as the process worked (cpu).
2. Throughput of `mmsa score` as a user calls it, in fresh processes: one process, `--jobs N`, and `--ray local --jobs
   N`. Each is run on half of the files and on all: the difference is what more media costs, without what starting
   costs (imports, model, Ray), which is told beside it. "of the limit": the stages' sum for as much media over what it
   took, divided by the processes; 100 % means that nothing is lost. Rows of all three are compared.

`--threads` is given to torch and the libraries below it (OMP_NUM_THREADS) everywhere; workers use one in any case.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scoring_media
from numpy.typing import NDArray
from scoring_rows import TOLERANCE, distance

from extractors import (
    AudioExtractor,
    AudioStream,
    Extractor,
    ExtractorSpec,
    FeatureSequence,
    Sliding,
    VisionExtractor,
    VisionStream,
    extract_windows,
)
from extractors.cores import usable_cores

WINDOW, HOP = 10.0, 5.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--run")
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="2 files of 20 s, once")
    parser.add_argument("--stages", nargs=2, type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.files, chosen.seconds, chosen.repeats = 2, 20.0, 1
    if chosen.stages:
        print(json.dumps(stages(*chosen.stages, chosen.repeats)))
        return
    os.environ["OMP_NUM_THREADS"] = str(chosen.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = scoring_media.bundle_of(chosen.run, folder)
        (folder / "media").mkdir()
        files = list(scoring_media.long_files(folder / "media", chosen.files, chosen.seconds))
        cores = usable_cores()
        print(f"{platform.processor() or platform.machine()}, {cores} cores to run on, {chosen.threads} thread(s)")
        print(f"{len(files)} files, {sum(length for _, length in files):.0f} s of video, windows {WINDOW:g}/{HOP:g} s")
        limit = show_stages(bundle, *files[0], chosen.repeats)
        show_throughput(bundle, files, chosen.jobs, limit, folder)


class _SilentStream(AudioStream, VisionStream):
    """Takes everything and finds one empty step a window."""

    def push(self, *_: Any) -> None:
        """Nothing is done."""

    def finish(self) -> FeatureSequence:
        """Never asked for."""
        raise NotImplementedError

    def window(self, start_seconds: float, end_seconds: float) -> tuple[FeatureSequence, str]:
        """One step."""
        values: NDArray[np.float32] = np.zeros((1, 1), np.float32)
        return FeatureSequence(values, np.array([[start_seconds, end_seconds]]), ("nothing",)), ""

    def forget(self, before_seconds: float) -> None:
        """Nothing is kept."""


class _Silent:
    rolling = True
    names = ("nothing",)
    spec = ExtractorSpec("benchmark.nothing", "none", "1", {})

    def stream(self, first_sample: int = 0) -> _SilentStream:
        """One that does nothing."""
        return _SilentStream()


class _SilentAudio(_Silent, AudioExtractor):
    def __init__(self, real: AudioExtractor) -> None:
        self.sample_rate_hz, self.hop_samples = real.sample_rate_hz, real.hop_samples
        self.context_seconds = real.context_seconds


class _SilentVision(_Silent, VisionExtractor):
    def __init__(self, real: VisionExtractor) -> None:
        self.frames_per_second, self.max_side_pixels = real.frames_per_second, real.max_side_pixels


def _silent(extractor: Extractor) -> Extractor | None:
    if isinstance(extractor, AudioExtractor):
        return _SilentAudio(extractor)
    return _SilentVision(extractor) if isinstance(extractor, VisionExtractor) else None


def stages(bundle: Path, media: Path, repeats: int) -> dict[str, tuple[float, float]]:
    """Seconds (wall, cpu) of each stage for one file, in this process."""
    import torch

    from mmsa.scoring import Timeline, load_scorer
    from mmsa.scoring.parts import Ending, Part

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    scorer, timeline = load_scorer(bundle), Timeline(WINDOW, HOP)
    from mmsa.sidecars import read_sidecar

    transcript = read_sidecar(media)

    def read(extractors: dict[str, Extractor]) -> None:
        for _ in extract_windows(media, extractors, Sliding(WINDOW, HOP), transcript=transcript):
            pass

    silent = {key: found for key, one in scorer.extractors.items() if (found := _silent(one)) is not None}
    scorer.score_clip(media, timeline)  # libraries compile and load at first use
    parts = list(scorer.read(media, timeline))
    ending = next(part for part in parts if isinstance(part, Ending))
    held = [part for part in parts if isinstance(part, Part)]
    windows = [window for part in held for window in scorer.predictor.windows(part)]
    costs = {"decoding": _timed(lambda: read(silent), repeats)}
    for key, real in scorer.extractors.items():
        cost = _timed(lambda key=key, real=real: read({key: real}), repeats)  # type: ignore[misc]
        if key in silent:
            idle = _timed(lambda key=key: read({key: silent[key]}), repeats)  # type: ignore[misc]
            cost = (cost[0] - idle[0], cost[1] - idle[1])
        costs[f"{key}: {real.spec.name}"] = cost
    costs["model"] = _timed(lambda: [list(scorer.predictor.windows(part)) for part in held], repeats)
    costs["smoothing, summary, row"] = _timed(
        lambda: json.dumps(scorer.join(media, timeline, windows, ending).to_dict()), repeats
    )
    costs["all of it"] = _timed(lambda: json.dumps(scorer.score_clip(media, timeline).to_dict()), repeats)
    return costs


def _timed(function: Callable[[], Any], repeats: int) -> tuple[float, float]:
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def show_stages(bundle: Path, media: Path, length: float, repeats: int) -> float:
    """Print the first table; the limit in seconds (wall) per second of video."""
    words = [sys.executable, __file__, "--stages", str(bundle), str(media), "--repeats", str(repeats)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    costs: dict[str, tuple[float, float]] = json.loads(done.stdout.splitlines()[-1])
    whole = costs.pop("all of it")
    wall, cpu = (sum(cost[place] for cost in costs.values()) for place in (0, 1))
    print(f"\nStages of one file of {length:.0f} s\n")
    print("| stage | wall s | cpu s | share | video seconds per second |")
    print("| --- | --- | --- | --- | --- |")
    for name, cost in costs.items():
        speed = length / cost[0] if cost[0] > 0 else float("inf")
        print(f"| {name} | {cost[0]:.3f} | {cost[1]:.3f} | {cost[0] / wall:.0%} | {speed:.0f} |")
    print(f"| sum | {wall:.3f} | {cpu:.3f} | 100% | {length / wall:.1f} |")
    print(f"| all of it | {whole[0]:.3f} | {whole[1]:.3f} | {whole[0] / wall:.0%} | {length / whole[0]:.1f} |")
    print(f"\nall of it against the sum: {whole[0] / wall:.2f} wall, {whole[1] / cpu:.2f} cpu", flush=True)
    return wall / length


def show_throughput(bundle: Path, files: Sequence[tuple[Path, float]], jobs: int, limit: float, folder: Path) -> None:
    """Print the second table, and whether the rows agree."""
    ways = [("1 process", 1, []), (f"--jobs {jobs}", jobs, ["--jobs", str(jobs)])]
    ways.append((f"--ray local --jobs {jobs}", jobs, ["--ray", "local", "--jobs", str(jobs)]))
    print("\n`mmsa score`, fresh processes\n")
    print("| | seconds | starting | video seconds per second | against 1 process | of the limit |")
    print("| --- | --- | --- | --- | --- | --- |")
    half = files[: len(files) // 2]
    first, rows = 0.0, {}
    for number, (name, processes, words) in enumerate(ways):
        short, _ = score(bundle, [path for path, _ in half], words, folder / f"half{number}.jsonl")
        whole, rows[name] = score(bundle, [path for path, _ in files], words, folder / f"all{number}.jsonl")
        more = sum(length for _, length in files[len(half) :])
        speed = more / (whole - short) if whole > short else float("nan")
        first = first or speed
        starting = short - sum(length for _, length in half) / speed
        print(
            f"| {name} | {whole:.1f} | {starting:.1f} | {speed:.1f} | {speed / first:.2f} × | "
            f"{speed * limit / processes:.0%} |",
            flush=True,
        )
    one, *others = rows.values()
    apart = max(distance(one, other) for other in others)
    print(f"\nlargest difference of any number in the rows: {apart:.2g} (allowed {TOLERANCE:g})")
    if apart > TOLERANCE:
        sys.exit(1)


def score(bundle: Path, files: Sequence[Path], words: Sequence[str], output: Path) -> tuple[float, dict[str, Any]]:
    """Seconds, and rows by path."""
    command = [sys.executable, "-m", "mmsa", "score", str(bundle), *map(str, files), *words]
    command += ["--window", str(WINDOW), "--hop", str(HOP), "--output", str(output)]
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    return seconds, {row["path"]: row for row in rows}


if __name__ == "__main__":
    main()
