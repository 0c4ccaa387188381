"""How fast features are extracted, against what limits it and against the field's way, in one run on the same files.

    python benchmarks/extraction.py [--quick] [--only PARTS] [--repeats 3] [--output FILE.md]

The files are rendered (demo faces with grain, H.264 with B-frames, AAC), nobody's real talk. Every figure comes from a
fresh process that has imported everything and looked at a second of the file before the clock starts, unless it says
otherwise; the ways that are compared take turns, and medians are shown. Seconds of processor time stand beside those
that passed: on a shared machine only they can be trusted.

- **limit**: the default extraction (`speech.librosa`; `facial.facemesh` at 10 frames a second) of a 60 s 720p30 file,
  against the slower of two things that it cannot do without: FFmpeg decoding the file to nothing, and MediaPipe's
  FaceMesh on the same frames in memory already.
- **peer**: a folder of ten 10 s 640 × 480 clips at 25 frames a second, by MMSA-FET's way as restated in
  `extraction_jobs.py` (every frame written to disk as BMP, read back and looked at; librosa apart), in one process, as
  its `run_single` works, and in one a core (its `run_dataset` starts four unless told), and by ours:
  `mmsa extract FOLDER`, one process a core. The start of MMSA-FET's processes is not counted; that of ours is, and
  shown apart.
- **processes**: the same folder, several times over, by one process held to one core and by two on two cores; and by
  one process that may use both, as decoding and FaceMesh overlap within it. Starting the two is shown apart.
- **cold**: `mmsa extract` of a folder with one 10 s file as a whole process, imports included, and the same by five
  lines of Python.
- **memory**: the highest resident memory of a process that extracts 1 minute, and 30 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from extraction_jobs import KINDS
from extraction_media import repeat, talking_file

from extractors.cores import usable_cores

PARTS = ("limit", "peer", "processes", "cold", "memory")
FEW_LINES = """
import sys
import extractors as ex
built = {"audio": ex.build("speech.librosa"), "vision": ex.build("facial.facemesh")}
assert ex.extract(sys.argv[1], built).sequences["vision"].values.any()
"""


class Bench:
    """Media that are made once, and jobs in processes of their own."""

    def __init__(self, folder: Path, *, repeats: int, quick: bool) -> None:
        self.folder, self.repeats, self.quick = folder, repeats, quick

    def talk(self, seconds: float, width: int, height: int) -> Path:
        """A file with one person."""
        path = self.folder / f"{seconds:g}s_{height}p.mp4"
        if not path.is_file():
            talking_file(path, seconds=seconds, width=width, height=height, fps=30)
        return path

    def clips(self, times: int = 1) -> Path:
        """A folder of short clips of different people, each there so many times."""
        count, seconds = (2, 3.0) if self.quick else (10, 10.0)
        place = self.folder / f"clips{times}"
        if not place.is_dir():
            place.mkdir()
            for speaker in range(count):
                first = talking_file(
                    place / f"{speaker}_0.mp4", seconds=seconds, width=640, height=480, fps=30, speaker=speaker
                )
                for number in range(1, times):
                    first.with_name(f"{speaker}_{number}.mp4").write_bytes(first.read_bytes())
        return place

    def run(
        self, kind: str, path: Path, fps: float | None = None, *, cores: set[int] | None = None, **more: Any
    ) -> Any:
        """One job; a figure for each name."""
        job = json.dumps({"kind": kind, "path": str(path), "fps": fps, "more": more})
        command = [sys.executable, __file__, "--child", job]
        hold = None if cores is None or not hasattr(os, "sched_setaffinity") else _holder(cores)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, preexec_fn=hold)
        if done.returncode:
            raise SystemExit(f"the job {kind} failed with exit code {done.returncode}")
        return json.loads(done.stdout.splitlines()[-1])

    def turns(self, *ways: Callable[[], Any]) -> list[list[Any]]:
        """Run each way so many times, taking turns; another one begins each turn, as a machine may tire."""
        found: list[list[Any]] = [[] for _ in ways]
        for turn in range(self.repeats):
            for place in range(turn, turn + len(ways)):
                number = place % len(ways)
                found[number].append(ways[number]())
        return found


def _holder(cores: set[int]) -> Callable[[], None]:
    return lambda: os.sched_setaffinity(0, cores)


def median(runs: Sequence[Any], key: str = "wall") -> float:
    """Of one figure over all runs."""
    return float(statistics.median(run[key] for run in runs))


def verdict(value: float, target: float, *, at_least: bool = False) -> str:
    """A figure beside its target."""
    met = value >= target if at_least else value <= target
    return f"{value:.2f} ({'≥' if at_least else '≤'} {target:g}{'' if met else ', missed'})"


def limit(bench: Bench) -> list[str]:
    """Against decoding and FaceMesh alone."""
    path = bench.talk(3.0 if bench.quick else 60.0, 1280, 720)
    ways = [lambda kind=kind: bench.run(kind, path) for kind in ("decode", "mesh", "ours")]
    decoding, mesh, ours = bench.turns(*ways)
    slower = max(median(decoding), median(mesh))
    ratios = [our["wall"] / max(one["wall"], two["wall"]) for one, two, our in zip(decoding, mesh, ours, strict=True)]
    work = median(ours, "processor") / (median(mesh, "processor") + median(decoding, "processor"))
    return [
        f"## Limit: {path.stem}",
        "",
        "| | seconds | processor seconds |",
        "| --- | ---: | ---: |",
        f"| FFmpeg decodes to nothing ({decoding[0]['frames']:.0f} frames) | {_both(decoding)} |",
        f"| FaceMesh alone ({mesh[0]['frames']:.0f} frames, a face in {mesh[0]['faces']:.0f}) | {_both(mesh)} |",
        f"| whole extraction ({ours[0]['vision']:.0f} steps of face, {ours[0]['audio']:.0f} sound) | {_both(ours)} |",
        "",
        f"Whole extraction against the slower of the two ({slower:.2f} s): {verdict(statistics.median(ratios), 1.25)}, "
        f"each turn {', '.join(f'{ratio:.2f}' for ratio in ratios)}; by processor time {work:.2f} of both together.",
    ]


def _both(runs: Sequence[Any]) -> str:
    return f"{median(runs):.2f} | {median(runs, 'processor'):.2f}"


def peer(bench: Bench) -> list[str]:
    """Against the field's way."""
    place, jobs = bench.clips(), usable_cores()
    one, many, ours, start = bench.turns(
        lambda: bench.run("peer", place, 25.0),
        lambda: bench.run("peer", place, 25.0, jobs=jobs),
        lambda: bench.run("folder", place, 25.0, jobs=jobs),
        lambda: bench.run("start", place, jobs=jobs),
    )
    warm = [both["wall"] - begun["wall"] for both, begun in zip(ours, start, strict=True)]
    ratios, several = ([run["wall"] / own for run, own in zip(runs, warm, strict=True)] for runs in (one, many))
    instead = "" if shutil.which("ffmpeg") else ", PyAV in place of ffmpeg, which is not here"
    return [
        f"## The field's way: {len(list(place.iterdir()))} clips at 25 frames a second",
        "",
        "| | seconds |",
        "| --- | ---: |",
        f"| frames to disk and back, FaceMesh, librosa{instead}: one process, without its start | {median(one):.2f} |",
        f"| the same in {jobs} processes | {median(many):.2f} |",
        f"| `mmsa extract FOLDER`, {jobs} processes, their start counted | {median(ours):.2f} |",
        f"| of it starting {jobs} processes | {median(start):.2f} |",
        "",
        "Without the start of any process, ours is faster than one of theirs by "
        f"{verdict(statistics.median(ratios), 3.0, at_least=True)}, each turn "
        f"{', '.join(f'{ratio:.2f}' for ratio in ratios)}; than {jobs} by {statistics.median(several):.2f}. With the "
        f"start of ours alone by {median(one) / median(ours):.2f} and {median(many) / median(ours):.2f}.",
    ]


def processes(bench: Bench) -> list[str]:
    """One process and two."""
    place = bench.clips(1 if bench.quick else 4)
    if usable_cores() < 2:
        return ["## Processes", "", "Not run: one core."]
    one, free, two, start = bench.turns(
        lambda: bench.run("folder", place, jobs=1, cores={0}),
        lambda: bench.run("folder", place, jobs=1, cores={0, 1}),
        lambda: bench.run("folder", place, jobs=2, cores={0, 1}),
        lambda: bench.run("start", place, jobs=2, cores={0, 1}),
    )
    after = median(two) - median(start)
    return [
        f"## Processes: {len(list(place.iterdir()))} clips, default extraction",
        "",
        "| | seconds |",
        "| --- | ---: |",
        f"| one process on one core | {median(one):.2f} |",
        f"| one process on two cores | {median(free):.2f} |",
        f"| two processes on two cores, their start counted | {median(two):.2f} |",
        f"| of it their start | {median(start):.2f} |",
        "",
        f"Two processes against one core's: {verdict(median(one) / median(two), 1.8, at_least=True)}, without their "
        f"start {median(one) / after:.2f}; against one process on two cores {median(free) / median(two):.2f}.",
    ]


def cold(bench: Bench) -> list[str]:
    """Whole processes."""
    path = bench.talk(3.0 if bench.quick else 10.0, 640, 480)
    place = bench.folder / "single"
    place.mkdir(exist_ok=True)
    (place / path.name).write_bytes(path.read_bytes())

    def command() -> Any:
        with tempfile.TemporaryDirectory() as name:
            return _timed([sys.executable, "-m", "mmsa", "extract", str(place), "--output", name])

    whole, lines = bench.turns(command, lambda: _timed([sys.executable, "-c", FEW_LINES, str(path)]))
    return [
        f"## Cold: one file, {path.stem}, as a whole process",
        "",
        f"`mmsa extract FOLDER --output FEATURES`: {verdict(median(whole), 5.0)} s; "
        f"`extractors.extract` in a script: {verdict(median(lines), 5.0)} s.",
    ]


def _timed(command: Sequence[str]) -> dict[str, float]:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return {"wall": time.perf_counter() - began}


def memory(bench: Bench) -> list[str]:
    """One minute and thirty."""
    minutes = (0.1, 0.5) if bench.quick else (1.0, 30.0)
    base = bench.talk(3.0 if bench.quick else 60.0, 1280, 720)
    rows, peaks = [], []
    for length in minutes:
        path = bench.folder / f"{length:g}min.mp4"
        repeat(base, path, length * 60)
        peaks.append(_peak([sys.executable, "-c", FEW_LINES, str(path)]))
        path.unlink()
        rows.append(f"| {length:g} min | {peaks[-1]:,.0f} |")
    return [
        "## Memory: 720p30",
        "",
        "| file | highest resident memory, MB |",
        "| --- | ---: |",
        *rows,
        "",
        f"Long against short: {verdict(peaks[1] / peaks[0], 1.1)}.",
    ]


def _peak(command: list[str]) -> float:
    """Highest resident memory of a process, in megabytes."""
    quiet = [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(command[0], command, dict(os.environ), file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(command[:2])} … ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Run the parts, or one child's job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short files, once: shows that it runs, no figures")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="also write the report here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        job = json.loads(chosen.child)
        print(json.dumps(KINDS[job["kind"]](Path(job["path"]), job["fps"], **job["more"])))
        return
    parts = chosen.only.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    report = [
        f"`python benchmarks/extraction.py {' '.join(sys.argv[1:])}`".replace(" `", "`"),
        "",
        f"Python {platform.python_version()}, {usable_cores()} shared cores, medians of {chosen.repeats}, load at the "
        f"start {os.getloadavg()[0]:.1f}.",
    ]
    print("\n".join(report), flush=True)
    with tempfile.TemporaryDirectory(prefix="mmsa-extraction-") as name:
        bench = Bench(Path(name), repeats=1 if chosen.quick else chosen.repeats, quick=chosen.quick)
        for part in parts:
            lines = ["", *globals()[part](bench), "", f"Load at its end: {os.getloadavg()[0]:.1f}."]
            print("\n".join(lines), flush=True)
            report += lines
    if chosen.output:
        chosen.output.write_text("\n".join(report) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
