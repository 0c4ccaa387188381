"""Scoring: a model and media files in, sentiment and emotion out, over time.

`load_scorer(run).score("talk.mp4", window_seconds=10)` is the whole of it for one file; `mmsa.scoring.batch` scores
many in processes into an append-only file.
"""

from mmsa.scoring.results import SCHEMA, ModalityScore, Moment, Score, Summary, TaskScore, TaskSummary, WindowScore
from mmsa.scoring.scorer import Scorer, load_scorer
from mmsa.scoring.timeline import Timeline
from mmsa.sidecars import SIDECARS

__all__ = [
    "SCHEMA",
    "SIDECARS",
    "ModalityScore",
    "Moment",
    "Score",
    "Scorer",
    "Summary",
    "TaskScore",
    "TaskSummary",
    "Timeline",
    "WindowScore",
    "load_scorer",
]
