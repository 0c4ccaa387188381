"""Scoring that is killed and run again, against scoring that is left alone.

Takes media files of any folder, copies them until there are `--files`, breaks ten of them in different ways, and
scores all with `mmsa score --jobs 2 --output`, killed -9 (the program, not its workers) at random moments. Then the
same files are scored once, uninterrupted, in one process. Prints what is in both outputs.

    python benchmarks/score_kills.py RUN FOLDER [--files 200] [--kills 3] [--window 2]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from scoring_rows import TOLERANCE, distance


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--window", type=float, default=None)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    chance = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as folder:
        media = Path(folder) / "media"
        broken = prepare(media, chosen.folder, chosen.files)
        options = [] if chosen.window is None else ["--window", str(chosen.window)]
        command = [sys.executable, "-m", "mmsa", "score", chosen.run, str(media), *options]
        killed = Path(folder) / "killed.jsonl"
        for kill in range(chosen.kills):
            goal = len(rows_of(killed)) + chance.randint(5, max(6, chosen.files // (chosen.kills + 2)))
            reached = interrupt([*command, "--jobs", "2", "--output", str(killed)], killed, goal)
            print(f"kill {kill + 1}: after {reached} rows", flush=True)
        finished = run([*command, "--jobs", "2", "--output", str(killed)])
        print(f"last run: exit code {finished.returncode}, {len(rows_of(killed))} rows")
        again = run([*command, "--jobs", "2", "--output", str(killed)])
        print(f"run once more: exit code {again.returncode}, {len(rows_of(killed))} rows")
        calm = Path(folder) / "calm.jsonl"
        began = time.perf_counter()
        run([*command, "--jobs", "1", "--output", str(calm)])
        print(f"uninterrupted, one process: {time.perf_counter() - began:.0f} s")
        compare(rows_of(killed), rows_of(calm), broken)


def prepare(media: Path, source: Path, count: int) -> set[str]:
    """Copy files with their transcripts, and break ten; returns the names of the broken ones."""
    clips = sorted(path for path in source.rglob("*") if path.suffix in {".mp4", ".mkv", ".webm", ".mov"})
    if not clips:
        sys.exit(f"no video in {source}")
    media.mkdir()
    for number, clip in enumerate(islice(cycle(clips), count)):
        for path in clip.parent.glob(f"{clip.stem}.*"):
            shutil.copy(path, media / f"{number:04}{path.suffix}")
    whole = sorted(path for path in media.iterdir() if path.suffix == clips[0].suffix)
    victims = whole[:: len(whole) // 10][:10]
    data = victims[0].read_bytes()
    damages = [
        b"",
        b"nothing like media",
        data[:64],
        data[: len(data) // 50],
        bytes(len(data)),
        data[::-1],
        b"RIFF\x00\x00\x00\x00WAVE",
        b"#EXTM3U\nfile:///etc/hostname\n",
        b"\x89PNG\r\n\x1a\n" + data[:100],
    ]
    for victim, damage in zip(victims, damages, strict=False):
        victim.write_bytes(damage)
    victims[-1].unlink()
    os.truncate(_touched(victims[-1]), 5_000_000)  # as a download that was given up: room, and nothing in it
    return {victim.name for victim in victims}


def _touched(path: Path) -> Path:
    path.touch()
    return path


def run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    """To the end, quietly."""
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def interrupt(command: list[str], rows: Path, goal: int) -> int:
    """Start, and kill -9 when there are so many rows."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(rows_of(rows)) < goal:
        time.sleep(0.05)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return len(rows_of(rows))


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The whole rows."""
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


def compare(killed: list[dict[str, Any]], calm: list[dict[str, Any]], broken: set[str]) -> None:
    """Print how the two outputs differ."""
    names = Counter(Path(row["path"]).name for row in killed)
    failed = {Path(row["path"]).name: row["error"] for row in killed if "error" in row}
    print(f"rows {len(killed)}, errors {len(failed)}, twice {sum(n > 1 for n in names.values())}")
    print(f"errors are those of the broken files: {set(failed) == broken}")
    for name, error in sorted(failed.items()):
        print(f"  {name}: {error[:110]}")
    other = {row["path"]: row for row in calm}
    print(f"the same files in both: {set(other) == {row['path'] for row in killed}}")
    print(f"same keys: {all(row['key'] == other[row['path']]['key'] for row in killed)}")
    apart = max((distance(row, other[row["path"]]) for row in killed), default=0.0)
    print(f"largest difference of any number: {apart:.3g} (allowed {TOLERANCE:g})")
    if apart > TOLERANCE or len(killed) != len(calm) or set(failed) != broken:
        sys.exit(1)


if __name__ == "__main__":
    main()
