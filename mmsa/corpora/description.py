"""What stands beside a table of clips: the tasks, and what its columns mean (see `mmsa.corpora.table`)."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmsa.corpora.cells import NONE_HOLDS, SEPARATOR
from mmsa.errors import UsageError
from mmsa.tasks import Classification, MultiLabel, Regression, Task

DESCRIPTIONS = (".yaml", ".yml", ".json")
REQUIRED = ("id", "split")
OPTIONAL = ("media", "start_seconds", "end_seconds", "transcript", "speaker", "dialogue", "turn")

Name = Annotated[str, Field(pattern=r"^[\w.-]+$")]


class RegressionTask(BaseModel):
    """A task whose labels are numbers in a range."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["regression"]
    low: float
    high: float
    metrics: Literal["mosi", "sims", "simsv2", "plain"] = "plain"

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low must lie below high, not {self.low} and {self.high}")
        return self


class ClassificationTask(BaseModel):
    """A task whose labels are names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["classification"]
    classes: tuple[str, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _no_class_twice(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must each be named once, not {list(self.classes)}")
        return self


class MultiLabelTask(BaseModel):
    """A task whose labels are the names of the classes that hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["multi-label"]
    classes: tuple[str, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _names_fit_into_cells(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must each be named once, not {list(self.classes)}")
        unfit = [name for name in self.classes if SEPARATOR in name or name in (NONE_HOLDS, "")]
        if unfit:
            raise ValueError(
                f"a class must be a name without {SEPARATOR!r} other than {NONE_HOLDS!r}, unlike {unfit[0]!r}"
            )
        return self


AnyTask = Annotated[RegressionTask | ClassificationTask | MultiLabelTask, Field(discriminator="kind")]


class Description(BaseModel):
    """What stands beside a table; the module says what each key means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: dict[Name, AnyTask] = Field(min_length=1)
    default_tasks: tuple[str, ...] = ()
    name: Name | None = None
    note: str = ""
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")] | None = None
    media_root: Path | None = None
    attributes: tuple[str, ...] = ()
    arrays: dict[Name, str] = Field(default_factory=dict)
    features: dict[Name, Path] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _columns_mean_one_thing(self) -> Self:
        columns = [*REQUIRED, *OPTIONAL, *self.tasks, *self.attributes, *self.arrays.values()]
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if twice:
            raise ValueError(f"the columns {', '.join(twice)} are given two meanings: give each one")
        if not set(self.default_tasks) <= set(self.tasks):
            raise ValueError(f"default_tasks must be among {', '.join(self.tasks)}, not {list(self.default_tasks)}")
        both = sorted(set(self.arrays) & set(self.features))
        if both:
            raise ValueError(f"{', '.join(both)} is among both arrays and features: give it once")
        return self

    def task_list(self) -> tuple[Task, ...]:
        """The tasks, in the order in which they are described."""
        return tuple(_task(name, task) for name, task in self.tasks.items())


def _task(name: str, task: RegressionTask | ClassificationTask | MultiLabelTask) -> Task:
    match task:
        case RegressionTask():
            return Regression(name, task.low, task.high, task.metrics)
        case ClassificationTask():
            return Classification(name, task.classes)
        case MultiLabelTask():
            return MultiLabel(name, task.classes)


def read_description(table: Path) -> Description:
    """Read what stands beside a table.

    Raises:
        UsageError: there is none, there are two, or it holds what it must not; all problems are named at once.
    """
    import yaml

    if not table.is_file():
        raise UsageError(f"no table {table}")
    found = [beside for suffix in DESCRIPTIONS if (beside := table.with_suffix(suffix)).is_file()]
    if len(found) != 1:
        held = f"there are {', '.join(path.name for path in found)}" if found else "there is none"
        raise UsageError(
            f"beside {table} there must be one description, {table.with_suffix('.yaml').name} or "
            f"{table.with_suffix('.json').name}, and {held}. The least one: "
            "tasks: {sentiment: {kind: regression, low: -3, high: 3}}"
        )
    try:
        data = yaml.safe_load(found[0].read_text(encoding="utf-8"))
        return Description.model_validate(data)
    except ValidationError as error:
        lines = "\n".join(f"  {_explain(e)}" for e in error.errors())
        raise UsageError(f"{found[0]} is not valid:\n{lines}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{found[0]} is not YAML: {error}") from None


def _explain(error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(error["loc"][-1]), list(Description.model_fields), n=1, cutoff=0.5)
        return f"{path}: unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    given = "" if isinstance(error["input"], dict) else f", not {error['input']!r}"
    return f"{path or 'description'}: {error['msg']}{given}"
