"""Tasks: regression on a range, classification over named classes, or several classes that may hold at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MELD_EMOTIONS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
"""MELD's seven emotions, in the order of the official baseline."""

Label = float | str | tuple[str, ...]
"""What a clip's label may be: a number, a class name, or the names of the classes that hold (none is `()`)."""


@dataclass(frozen=True)
class Regression:
    """Predict a number in `[low, high]`.

    Attributes:
        name: the label's key in a clip, such as `"sentiment"`.
        low: lowest label.
        high: highest label.
        metrics: which of the field's metric sets applies: `"mosi"` (also MOSEI), `"sims"`, `"simsv2"` or `"plain"`.
    """

    name: str
    low: float
    high: float
    metrics: str = "plain"
    output_dim: int = 1

    def encode(self, label: Label) -> float:
        """The training target of a label.

        Raises:
            ValueError: not a number, or out of range.
        """
        if isinstance(label, tuple):
            raise ValueError(f"{self.name} must be one number, not {label!r}")
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

    def encode(self, label: Label) -> float:
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


@dataclass(frozen=True)
class MultiLabel:
    """Predict for each of several named classes whether it holds; any number may hold at once, or none.

    Attributes:
        name: the label's key in a clip, such as `"emotions"`.
        classes: the names, in the order of the model's outputs, which are logits.
    """

    name: str
    classes: tuple[str, ...]

    @property
    def output_dim(self) -> int:
        """One output per class."""
        return len(self.classes)

    def encode(self, label: Label) -> tuple[float, ...]:
        """One number per class: 1 where it holds, else 0.

        Args:
            label: the names of the classes that hold, each once; `()` where none does.

        Raises:
            ValueError: not a tuple of names, an unknown class, or one that is named twice.
        """
        if not isinstance(label, tuple):
            raise ValueError(f"{self.name} must be a tuple of the classes that hold, empty where none does: {label!r}")
        unknown = [name for name in label if name not in self.classes]
        if unknown:
            raise ValueError(f"{self.name} must be among {', '.join(self.classes)}, not {unknown[0]!r}")
        if len(set(label)) < len(label):
            raise ValueError(f"{self.name} must name each class once, not {label!r}")
        return tuple(float(name in label) for name in self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, read back by `task_from_dict`."""
        return {"kind": "multi-label", "name": self.name, "classes": list(self.classes)}


Task = Regression | Classification | MultiLabel


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
    if data["kind"] == "multi-label":
        return MultiLabel(data["name"], tuple(data["classes"]))
    raise ValueError(f"a task's kind is 'regression', 'classification' or 'multi-label', not {data['kind']!r}")
