"""Does a training that is killed again and again end as the one that never was? Bit for bit, on a CPU.

    python benchmarks/resume.py [--kills 20] [--most 4] [--seed 0] [--folder DIR] [-- OPTIONS OF mmsa train]

One training runs to its end. Then others with the same options are killed with SIGKILL at random moments, from the
opening of the run to the writing of its results, up to `--most` times each, and gone on with by `mmsa train --resume`,
until there were `--kills` kills. Every finished run is compared with the first: all test metrics, the curves in
MLflow (each epoch once), the weights in the bundle. All processes are real ones, each started anew.

Without options, Self-MM is trained on the demo corpus (rendered on first use) with all that a checkpoint has to
hold: pseudo-labels, modality dropout, gradient accumulation, warm-up and cosine, a moving average of the weights, and
checkpoints within epochs.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

SETTINGS = {
    "epochs": 12,
    "batch_size": 16,
    "accumulate": 2,
    "modality_dropout": 0.3,
    "schedule": "cosine",
    "warmup_epochs": 1,
    "ema_decay": 0.9,
    "checkpoint_steps": 1,
}
DEFAULT = ["--fusion", "self_mm", "--device", "cpu"]
DEFAULT += [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]

NOT_COMPARED = ("engine/seconds", "engine/clips_per_second", "train_seconds")
"""Curves that say how fast the machine was."""


@dataclass
class Process:
    """A training in a process of its own.

    Attributes:
        run: MLflow's run id, as soon as it is told.
        epoch: the last one that was told; -1 before the run is.
        told: when the run and each epoch were told, and when the process ended.
        lines: of standard error.
    """

    words: list[str]
    folder: Path
    run: str = ""
    epoch: int = -1
    told: list[float] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", "mmsa", "train", *self.words],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"},
        )
        self.news = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.child.stderr is not None
        for line in self.child.stderr:
            with self.news:
                self._note(line.split())
                self.lines.append(line.rstrip())
                self.news.notify_all()
        with self.news:
            self.told.append(time.monotonic())
            self.epoch = sys.maxsize
            self.news.notify_all()

    def _note(self, words: list[str]) -> None:
        if words[:1] == ["Run"]:
            self.run = words[1].rstrip(".")
            self.epoch = int(words[-1].rstrip(".")) if "goes" in words else 0
        elif words[:1] == ["epoch"]:
            self.epoch = int(words[1])
        else:
            return
        self.told.append(time.monotonic())

    def ends(self, moment: tuple[int, float] | None) -> bool:
        """Whether it comes to its end by itself; otherwise it is killed so many seconds after that epoch was told.

        A run that was killed when all was done, but before its process ended, is gone on with in vain: no run is told.
        """
        if moment is not None:
            with self.news:
                self.news.wait_for(lambda: self.epoch >= moment[0])
            try:
                self.child.wait(moment[1])
            except subprocess.TimeoutExpired:
                self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        self.reader.join()
        if self.child.returncode not in (0, -signal.SIGKILL):
            raise SystemExit("\n".join([f"mmsa train ended with {self.child.returncode}:", *self.lines]))
        return self.child.returncode == 0


@dataclass(frozen=True)
class Outcome:
    """What a finished run left, but for times."""

    metrics: dict[str, float]
    curves: dict[str, list[tuple[int, float]]]
    weights: str


def outcome(folder: Path, run_id: str) -> Outcome:
    """Read it from the run's MLflow store."""
    from mlflow.tracking import MlflowClient

    store = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    run = store.get_run(run_id)
    assert run.info.status == "FINISHED", run.info.status
    curves = {
        key: sorted((point.step, point.value) for point in store.get_metric_history(run_id, key))
        for key in run.data.metrics
        if key not in NOT_COMPARED
    }
    bundle = Path(str(run.info.artifact_uri).removeprefix("file://")) / "bundle" / "weights.safetensors"
    tested = {key: value for key, value in run.data.metrics.items() if key.startswith("test")}
    return Outcome(tested, curves, hashlib.sha256(bundle.read_bytes()).hexdigest())


def main() -> None:
    """Run, kill, resume, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--most", type=int, default=4, help="kills of one run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="for the MLflow store; default: a temporary one")
    parser.add_argument("options", nargs="*", help="of mmsa train, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sys.exit(compare(folder.resolve(), given.options or DEFAULT, given.kills, given.most, given.seed))


def compare(folder: Path, words: list[str], kills: int, most: int, seed: int) -> int:
    """Returns how many runs ended otherwise than the first."""
    moments = random.Random(seed)
    first = Process(words, folder)
    first.ends(None)
    gaps = [after - before for before, after in itertools.pairwise(first.told)]  # the last: from last epoch to the end
    whole = outcome(folder, first.run)
    points = sum(map(len, whole.curves.values()))
    print(f"never killed: {sum(gaps):.1f} s, {len(gaps) - 1} epochs, {len(whole.curves)} curves with {points} points")
    print(f"{'run':>3}  {'metrics':7}  {'curves':7}  {'weights':7}  killed after epoch + seconds")
    done = number = wrong = 0
    while done < kills:
        number += 1
        told: list[str] = []
        process = Process(words, folder)
        run_id, passed = "", 0
        while True:
            moment = None
            if len(told) < min(most, kills - done):
                epoch = moments.randrange(passed, len(gaps))
                moment = epoch, moments.uniform(0, gaps[epoch])
            ended = process.ends(moment)
            run_id = run_id or process.run
            if ended or moment is None:
                break
            told.append(f"{moment[0]} + {moment[1]:.2f}")
            passed = moment[0]
            process = Process(["--resume", run_id], folder)
        found = outcome(folder, run_id)
        same = [
            found.metrics == whole.metrics,
            found.curves == whole.curves,
            found.weights == whole.weights,
        ]
        wrong += not all(same)
        done += len(told)
        print(
            f"{number:3}  " + "  ".join(f"{'same' if s else 'OTHER':7}" for s in same) + f"  {', '.join(told)}",
            flush=True,
        )
    print(f"{done} kills, {number} runs, {wrong} of them ended otherwise")
    return wrong


if __name__ == "__main__":
    main()
