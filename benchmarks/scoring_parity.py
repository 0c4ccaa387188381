"""Train/serve parity: every test clip of a run's corpus, scored from its media, against its stored features.

    python benchmarks/scoring_parity.py [--run RUN] [--limit N]

RUN is a finished run (not a bundle folder alone), `latest` by default. What training predicted for its test split, from
the feature store, is in the run's `predictions_test.csv` (seven digits and more); what `Scorer` predicts of the same
clips, from the media file and the words alone, is compared with it: scores of regression as they are (clipped to the
task's range, as rows are), classes by their calibrated probabilities. Prints the largest difference; more than 1e-5
fails.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Mapping

from mmsa.scoring import Scorer, TaskScore
from mmsa.subject import open_subject
from mmsa.tasks import Classification, Regression, Task
from mmsa.tracking import find_bundle

TOLERANCE = 1e-5


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--run", default="latest")
    parser.add_argument("--limit", type=int)
    chosen = parser.parse_args()
    subject = open_subject(chosen.run)
    kept = find_bundle(chosen.run).parent / "predictions_test.csv"
    with kept.open(encoding="utf-8", newline="") as file:
        rows = {row["clip"]: row for row in csv.DictReader(file)}
    scorer = Scorer(subject.bundle)
    apart, compared, worst = 0.0, 0, ""
    clips = subject.corpus(None, None).split("test")[: chosen.limit]
    for clip in clips:
        assert clip.media is not None
        found = scorer.score(
            clip.media, text=clip.transcript or "", start_seconds=clip.start_seconds, end_seconds=clip.end_seconds
        )
        for task in scorer.bundle.tasks:
            for one, other in pairs(scorer, task, found.scores[task.name], rows[clip.id]):
                compared += 1
                if abs(one - other) > apart:
                    apart, worst = abs(one - other), f"{clip.id}, {task.name}"
    print(f"{len(clips)} test clips of {scorer.bundle.corpus}, {compared} numbers, from media and from stored features")
    print(f"largest difference: {apart:.2g} ({worst}); allowed {TOLERANCE:g}")
    if apart > TOLERANCE or not compared:
        sys.exit(1)


def pairs(scorer: Scorer, task: Task, score: TaskScore, row: Mapping[str, str]) -> list[tuple[float, float]]:
    """What scoring said and what training kept."""
    if isinstance(task, Regression):
        kept = min(max(float(row[f"{task.name}.prediction"]), task.low), task.high)
        assert score.value is not None
        return [(score.value, kept)]
    assert isinstance(task, Classification), f"{task.name}: only regression and classification are compared"
    fitted = scorer.bundle.calibration
    heat = 1.0 if fitted is None else fitted.temperatures.get(task.name, 1.0)
    powers = {name: math.exp(float(row[f"{task.name}.{name}"]) / heat) for name in task.classes}
    total = sum(powers.values())
    return [(score.probabilities[name], power / total) for name, power in powers.items()]


if __name__ == "__main__":
    main()
