"""Labels as they stand in the cells of a table, and back."""

from __future__ import annotations

from mmsa.tasks import Label, MultiLabel, Regression, Task

NONE_HOLDS = "-"
"""The cell of a clip for which none of a multi-label task's classes holds; an empty cell is unlabelled."""

SEPARATOR = "|"
"""Between the classes that hold."""


def cell_of(task: Task, label: Label | None) -> str:
    """The cell for a label; None, which is no label, is the empty one.

    Example:
        >>> cell_of(MultiLabel("emotions", ("happy", "sad")), ())
        '-'
    """
    if label is None:
        return ""
    if isinstance(label, tuple):
        return SEPARATOR.join(label) or NONE_HOLDS
    return repr(float(label)) if isinstance(task, Regression) else str(label)


def label_of(task: Task, cell: str) -> Label:
    """The label that a cell means.

    Args:
        task: what it is a label of.
        cell: a number, a class, or the classes that hold with `|` between, `-` where none does.

    Raises:
        ValueError: it is no label of the task.

    Example:
        >>> label_of(MultiLabel("emotions", ("happy", "sad")), "sad|happy")
        ('sad', 'happy')
    """
    if isinstance(task, MultiLabel):
        names = () if cell == NONE_HOLDS else tuple(part.strip() for part in cell.split(SEPARATOR))
        task.encode(names)
        return names
    code = task.encode(cell)
    return code if isinstance(task, Regression) else cell
