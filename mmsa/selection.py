"""What makes an epoch of a training the best one, judged on the validation split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmsa.errors import UsageError, unknown
from mmsa.metrics import direction, metric_names
from mmsa.tasks import Task

LOSS = "loss"


@dataclass(frozen=True)
class Selection:
    """A measure of a model on the validation split.

    Attributes:
        measure: `"loss"` or `"<task>.<metric>"`.
        tasks: that are learned.

    Raises:
        UsageError: none of these tasks has such a metric.
    """

    measure: str
    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        allowed = selectable(self.tasks)
        if self.measure not in allowed:
            raise unknown("measure to select on", self.measure, allowed)

    def cost(self, loss: float, metrics: Mapping[str, float]) -> float:
        """A number that is smaller for a better model.

        Args:
            loss: task loss on the validation split.
            metrics: `"<task>.<metric>"` on the validation split.

        Raises:
            UsageError: the metric is not defined there, for want of labels.
        """
        if self.measure == LOSS:
            return loss
        if self.measure not in metrics:
            raise UsageError(
                f"select is {self.measure}, which is not defined on the validation split: its labels do not allow it; "
                f"defined are {', '.join([LOSS, *metrics])}"
            )
        return metrics[self.measure] if direction(self.measure) == "min" else -metrics[self.measure]


def selectable(tasks: Sequence[Task]) -> tuple[str, ...]:
    """Every measure that can be selected on."""
    return (LOSS, *(f"{task.name}.{name}" for task in tasks for name in metric_names(task)))
