"""Tasks: regression on a range, or classification over named labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MELD_EMOTIONS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
"""MELD's seven emotions, in the order of the official baseline."""


@dataclass(frozen=True)
class Regression:
    """Predict a number in `[low, high]`.

    Attributes:
        name: the label's key in a clip, such as `"sentiment"`.
        low: lowest label.
        high: highest label.
        metrics: which of the field's metric sets applies: `"mosi"` (also MOSEI), `"sims"` or `"plain"`.
    """

    name: str
    low: float
    high: float
    metrics: str = "plain"
    output_dim: int = 1

    def encode(self, label: float | str) -> float:
        """The training target of a label.

        Raises:
            ValueError: not a number, or out of range.
        """
        value = float(label)
        if not self.low <= value <= self.high:
            raise ValueError(f"{self.name} must lie in [{self.low}, {self.high}], not {label!r}")
        return value

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, read back by `task_from_dict`."""
        return {
            "kind": "regression",
            "name": self.name,
            "low": self.low,
            "high": self.high,
            "metrics": self.metrics,
        }


@dataclass(frozen=True)
class Classification:
    """Predict one of several named classes.

    Attributes:
        name: the label's key in a clip, such as `"emotion"`.
        classes: the names, in the order of the model's outputs.
    """

    name: str
    classes: tuple[str, ...]

    @property
    def output_dim(self) -> int:
        """One output per class."""
        return len(self.classes)

    def encode(self, label: float | str) -> float:
        """The index of a class name.

        Raises:
            ValueError: unknown class.
        """
        if label not in self.classes:
            raise ValueError(f"{self.name} must be one of {', '.join(self.classes)}, not {label!r}")
        return float(self.classes.index(str(label)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, read back by `task_from_dict`."""
        return {"kind": "classification", "name": self.name, "classes": list(self.classes)}


Task = Regression | Classification


def task_from_dict(data: Mapping[str, Any]) -> Task:
    """Read what a task's `to_dict` wrote.

    Raises:
        ValueError: unknown kind.

    Example:
        >>> task = Regression("sentiment", -3, 3, "mosi")
        >>> task_from_dict(task.to_dict()) == task
        True
    """
    if data["kind"] == "regression":
        return Regression(data["name"], float(data["low"]), float(data["high"]), data["metrics"])
    if data["kind"] == "classification":
        return Classification(data["name"], tuple(data["classes"]))
    raise ValueError(f"a task's kind is 'regression' or 'classification', not {data['kind']!r}")
