"""The columns of a served model's requests and answers."""

from __future__ import annotations

from collections.abc import Iterator

from mmsa.bundle import Bundle
from mmsa.tasks import Classification, MultiLabel

INPUTS = {"path": "string", "media": "binary", "text": "string", "start": "double", "end": "double", "id": "string"}
"""Columns of a request by MLflow's types, none of which must be there; the names are those of `mmsa score`'s tables."""

PARAMS = {"window_seconds": 0.0, "hop_seconds": 0.0}
"""Parameters of a request. MLflow has no parameter without a value: 0 is "as one clip", and "half a window"."""

ABOUT = {
    "row": "long",
    "path": "string",
    "id": "string",
    "window": "long",
    "start_seconds": "double",
    "end_seconds": "double",
    "error": "string",
    "missing": "string",
    "notes": "string",
}
"""Columns of every answer."""


def output_columns(bundle: Bundle) -> dict[str, str]:
    """Every column of the answers by MLflow's type, in order.

    All of them are there in every answer, empty where there is no value. What stands in those of tasks and modalities
    is what the CSV output of `mmsa score` has under the same name.
    """
    columns = dict(ABOUT)
    for task in bundle.tasks:
        classes = task.classes if isinstance(task, Classification | MultiLabel) else ()
        kind = "string" if classes else "double"
        columns |= {task.name: kind, f"{task.name}.smoothed": kind}
        columns |= dict.fromkeys([f"{task.name}.{name}" for name in classes or ("low", "high")], "double")
    for key in bundle.extractors:
        columns |= dict.fromkeys(_of_modality(key, bundle), "double")
    return columns


def _of_modality(key: str, bundle: Bundle) -> Iterator[str]:
    yield f"{key}.steps"
    yield f"{key}.weight"
    for task in bundle.tasks:
        yield f"{key}.moved.{task.name}"
