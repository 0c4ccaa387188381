"""mmsa: sentiment and emotion from video, by fusing text, speech and face."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmsa.benchmarking.runner import benchmark
    from mmsa.config import TrainConfig, make_config
    from mmsa.corpora import load_corpus
    from mmsa.evaluating import Evaluation, evaluate
    from mmsa.runs import Run, train
    from mmsa.scoring import Score, Scorer, load_scorer

__all__ = [
    "Evaluation",
    "Run",
    "Score",
    "Scorer",
    "TrainConfig",
    "benchmark",
    "evaluate",
    "load_corpus",
    "load_scorer",
    "make_config",
    "train",
]

_HOMES = {
    "Evaluation": "mmsa.evaluating",
    "Run": "mmsa.runs",
    "Score": "mmsa.scoring",
    "Scorer": "mmsa.scoring",
    "TrainConfig": "mmsa.config",
    "benchmark": "mmsa.benchmarking.runner",
    "evaluate": "mmsa.evaluating",
    "load_corpus": "mmsa.corpora",
    "load_scorer": "mmsa.scoring",
    "make_config": "mmsa.config",
    "train": "mmsa.runs",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `mmsa --help` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mmsa' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
