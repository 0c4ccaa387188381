"""Peak memory of scoring a file of two hours, against one of two minutes.

    python benchmarks/scoring_memory.py [--run RUN] [--minutes 120] [--quick]

Rendered clips of the demo corpus are repeated, packet by packet, into a file of two minutes and one of two hours, with
subtitles. Each is scored by `mmsa score --window 10 --hop 5 --output` in a fresh process; its highest resident memory
and time are what the system says when it has ended. Between the two lie the rows: 1,440 windows of about 2 KB, which
are held until the file is finished, as smoothing needs them. Without RUN a model is trained on the demo corpus first.
`--quick` takes 30 seconds and 5 minutes instead.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import scoring_media


def main() -> None:
    """Score both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--run")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    short, long = (30.0, 300.0) if chosen.quick else (120.0, chosen.minutes * 60)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = scoring_media.bundle_of(chosen.run, folder)
        clip = scoring_media.test_clips()[0]
        print("| file | windows | peak memory | seconds | video seconds per second |")
        print("| --- | --- | --- | --- | --- |")
        peaks = []
        for wanted in (short, long):
            media = folder / f"{wanted:.0f}.mp4"
            length = scoring_media.loop(clip, media, wanted)
            peak, seconds, windows = measure(bundle, media)
            peaks.append(peak)
            print(
                f"| {length / 60:.1f} min | {windows} | {peak:.0f} MB | {seconds:.1f} | {length / seconds:.1f} |",
                flush=True,
            )
        print(f"\npeak memory, long against short: {peaks[1] / peaks[0]:.3f} ({peaks[1] - peaks[0]:+.0f} MB)")


def measure(bundle: Path, media: Path) -> tuple[float, float, int]:
    """Peak memory in MB, seconds and windows of scoring a file in a fresh process."""
    rows = media.with_suffix(".jsonl")
    words = ["score", str(bundle), str(media), "--window", "10", "--hop", "5", "--output", str(rows)]
    began = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]  # the table; progress is shown
    command = [sys.executable, "-m", "mmsa", *words]
    child = os.posix_spawn(sys.executable, command, dict(os.environ), file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"mmsa score ended with {os.waitstatus_to_exitcode(status)}")
    (line,) = rows.read_text(encoding="utf-8").splitlines()
    return usage.ru_maxrss / 1024, time.perf_counter() - began, len(json.loads(line)["windows"])


if __name__ == "__main__":
    main()
