"""`Recipe`: what `mmsa benchmark` compares and what `mmsa sweep` searches, read from one YAML file.

train: {corpus: mosi, modalities: [text], epochs: 40}   # shared by all heads
heads:
  - late
  - {head: tfn, name: small tfn, options: {hidden_dim: 32}, train: {learning_rate: 5.0e-4}}
  - svm                                                 # classical: functionals and a support vector machine
seeds: [1, 2, 3, 4, 5]
reference: late                                         # heads are tested against this row
metrics: [sentiment.mae, sentiment.corr]                # columns; the first one ranks
slices: [speaker, class, length, missing, congruent, attribute.setting]
search:                                                 # for `mmsa sweep`
  parameters:
    head.hidden_dim: {low: 16, high: 256, log: true, kind: int}
    modality_dropout: {choices: [0.0, 0.2]}
  trials: 40
  metric: loss

`corpora: [mustard-fold0, mustard-fold1]` in place of `train.corpus`: several corpora of one setting, such as folds.
Left out, a key has the default that `Recipe` says; `train` takes every setting of `mmsa.TrainConfig`.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mmsa.config import TrainConfig, make_config
from mmsa.errors import UsageError

CLASSICAL = ("svm",)
"""Heads that are no fusion head: they are fitted in one step, with scikit-learn."""

SLICES = ("speaker", "class", "length", "missing", "congruent")
ATTRIBUTE = "attribute."
"""Before the name of a clip attribute: a slice by what the corpus says of its clips."""

OWN_KEYS = {"fusion": "heads", "head": "options of an entry of heads", "seed": "seeds"}
"""Settings of `TrainConfig` that a recipe says elsewhere, and where."""

Seed = Annotated[int, Field(ge=0)]


class HeadEntry(BaseModel):
    """One row of the leaderboard.

    Attributes:
        head: a fusion head's short name or class name, or one of `CLASSICAL`.
        name: of the row; the head's name where none is given.
        options: keyword arguments of the head.
        train: settings that this row has for itself; dotted keys reach inside.
        reference: the row that this one is tested against; None is the recipe's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    head: str
    name: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    reference: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if isinstance(data, str):
            data = {"head": data}
        if isinstance(data, Mapping) and "head" in data:
            data = {**data, "name": data.get("name") or data["head"]}
        return data

    @field_validator("name")
    @classmethod
    def _is_plain(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w .+=-]*", name):
            raise ValueError("a row's name takes letters, digits, spaces and . _ + = - only, a letter or digit first")
        return name

    @property
    def classical(self) -> bool:
        """Whether this is no fusion head."""
        return self.head in CLASSICAL

    @property
    def slug(self) -> str:
        """The name as a folder."""
        return re.sub(r"\W", "_", self.name)


class Parameter(BaseModel):
    """What a search tries for one setting: choices, or a range.

    Attributes:
        choices: any YAML values.
        low: lowest.
        high: highest.
        log: whether the search is uniform in the logarithm.
        kind: whole numbers or real ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    choices: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    kind: Literal["int", "float"] = "float"

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.choices is not None:
            if not self.choices or self.low is not None or self.high is not None:
                raise ValueError("give choices (at least one), or low and high")
            return self
        if self.low is None or self.high is None or not self.low < self.high:
            raise ValueError("give choices, or low and high with low below high")
        if self.log and self.low <= 0:
            raise ValueError("a range with log must start above 0")
        if self.kind == "int" and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("low and high of kind int must be whole numbers")
        return self


class Search(BaseModel):
    """What `mmsa sweep` searches.

    Attributes:
        parameters: by setting, dotted keys reaching inside (`"head.hidden_dim"`, `"learning_rate"`).
        trials: how many settings are tried per head.
        metric: `"<task>.<metric>"` on the validation split, or `"loss"`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameters: dict[str, Parameter] = Field(min_length=1)
    trials: int = Field(default=40, ge=1)
    metric: str = "loss"


class Recipe(BaseModel):
    """A benchmark: heads × seeds × corpora at one setting and budget.

    Attributes:
        train: settings of `TrainConfig` that all heads share; dotted keys reach inside.
        corpora: corpora of one setting, such as folds: predictions of their test splits are pooled per seed.
        heads: the rows.
        seeds: one training each.
        reference: the row that all others are tested against; None tests nothing.
        metrics: `"<task>.<metric>"`, the columns; None takes the headline ones of the tasks. The first one ranks.
        slices: parts of the test split that are reported apart: `SLICES`, or `"attribute.NAME"` for a part per value
            of a clip attribute, such as IEMOCAP's `attribute.setting` (improvised or scripted).
        cluster: what is drawn as a whole in resampling, because its clips are not independent: `"auto"` takes the
            dialogue or video where the corpus says it, else the speaker, else the clip.
        resamples: of the bootstrap, and permutations of a test.
        search: for `mmsa sweep`.
        name: of the recipe; its file's name without the ending.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: dict[str, Any] = Field(default_factory=dict)
    corpora: tuple[str, ...] = ()
    heads: tuple[HeadEntry, ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(default=(1, 2, 3, 4, 5), min_length=1)
    reference: str | None = None
    metrics: tuple[str, ...] | None = None
    slices: tuple[str, ...] = ()
    cluster: Literal["auto", "dialogue", "speaker", "clip"] = "auto"
    resamples: int = Field(default=9999, ge=99)
    search: Search | None = None
    name: str = "recipe"

    @field_validator("slices")
    @classmethod
    def _are_slices(cls, slices: tuple[str, ...]) -> tuple[str, ...]:
        for kind in slices:
            if kind not in SLICES and not re.fullmatch(rf"{re.escape(ATTRIBUTE)}\w+", kind):
                near = difflib.get_close_matches(kind, SLICES, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ValueError(f"{kind!r} is no slice; {hint}known are {', '.join(SLICES)} and {ATTRIBUTE}NAME")
        return slices

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [f"{key} {_twice(given)} twice" for key, given in self._lists().items() if _twice(given)]
        problems += [
            f"train.{key}: a recipe says this under {OWN_KEYS[key.split('.')[0]]}"
            for key in self.train
            if key.split(".")[0] in OWN_KEYS
        ]
        if self.corpora and "corpus" in self.train:
            problems.append("corpora and train.corpus are both given: leave one out")
        names = [entry.name for entry in self.heads]
        for given in filter(None, [self.reference, *(entry.reference for entry in self.heads)]):
            if given not in names:
                near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"rows are {', '.join(names)}"
                problems.append(f"reference: there is no row {given!r}; {hint}")
        for name in self.metrics or ():
            if len(name.split(".")) != 2:
                problems.append(f"metrics: {name!r} must be <task>.<metric>, such as sentiment.mae")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _lists(self) -> dict[str, list[str]]:
        return {
            "heads: the name": [entry.slug for entry in self.heads],
            "seeds: the seed": [str(seed) for seed in self.seeds],
            "corpora: the corpus": list(self.corpora),
            "metrics: the metric": list(self.metrics or ()),
            "slices: the slice": list(self.slices),
        }

    @property
    def corpus_names(self) -> tuple[str, ...]:
        """The corpora that every row is trained on, unless it names one of its own."""
        return self.corpora or (str(self.train.get("corpus", TrainConfig().corpus)),)

    def corpora_of(self, entry: HeadEntry) -> tuple[str, ...]:
        """The corpora that a row is trained on."""
        return (str(entry.train["corpus"]),) if "corpus" in entry.train else self.corpus_names

    def reference_of(self, entry: HeadEntry) -> str | None:
        """The row that a row is tested against; None for the reference itself."""
        wanted = entry.reference or self.reference
        return None if wanted == entry.name else wanted

    def config(self, entry: HeadEntry, *, seed: int | None = None, corpus: str | None = None) -> TrainConfig:
        """The settings of one training: the shared ones, the row's own over them.

        Args:
            entry: the row. A classical head's `fusion` stays at its default.
            seed: None is the first.
            corpus: None is the first.

        Raises:
            UsageError: they are not valid; the message names the row.
        """
        options: dict[str, Any] = {**copy.deepcopy(self.train), **copy.deepcopy(entry.train)}
        options["corpus"] = corpus or self.corpora_of(entry)[0]
        options["seed"] = self.seeds[0] if seed is None else seed
        if not entry.classical:
            options.update(fusion=entry.head, head=copy.deepcopy(entry.options))
        try:
            return make_config(None, options)
        except UsageError as error:
            raise UsageError(f"row {entry.name!r}: " + str(error).replace("\n", "\n  ")) from None

    def to_yaml(self) -> str:
        """The recipe as `load_recipe` reads it; what has its default is left out."""
        import yaml

        data = self.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        data["heads"] = [self._short(entry) for entry in data["heads"]]
        return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120))

    @staticmethod
    def _short(entry: dict[str, Any]) -> str | dict[str, Any]:
        if entry["name"] == entry["head"]:
            entry = {key: value for key, value in entry.items() if key != "name"}
        return str(entry["head"]) if entry.keys() == {"head"} else entry


def load_recipe(file: Path | str) -> Recipe:
    """Read and check a recipe.

    Raises:
        UsageError: it cannot be read, or holds unknown keys or wrong values; all are named at once.
    """
    import yaml

    file = Path(file)
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the recipe {file}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not YAML: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"the recipe {file} must hold a mapping with the key heads, not a {type(data).__name__}")
    if "heads" not in data and "fusion" in data:
        raise UsageError(f"{file} is a configuration, not a recipe: run `mmsa train --config {file}`")
    return make_recipe({"name": file.stem, **data}, where=f" in {file}")


def make_recipe(data: Mapping[str, Any], where: str = "") -> Recipe:
    """Check a recipe.

    Args:
        data: what its YAML file would hold.
        where: named in the message of an error.

    Raises:
        UsageError: unknown keys or wrong values; all are named at once.
    """
    try:
        recipe = Recipe.model_validate(dict(data))
    except ValidationError as error:
        found = error.errors()
        # A list whose items are wrong is also reported as too short: that says nothing new.
        told = [e for e in found if e["type"] != "too_short" or not _has_inner(e["loc"], found)]
        lines = "\n".join(f"  {_explain(e)}" for e in told)
        raise UsageError(f"the recipe{where} is not valid:\n{lines}") from None
    problems = []
    for entry in recipe.heads:
        try:
            recipe.config(entry)
        except UsageError as error:
            problems.append(str(error))
        problems += [
            f"row {entry.name!r}: train.{key}: a recipe says this under {OWN_KEYS[key.split('.')[0]]}"
            for key in entry.train
            if key.split(".")[0] in OWN_KEYS
        ]
    if problems:
        raise UsageError(
            f"the recipe{where} is not valid:\n" + "\n".join(f"  {p}".replace("\n", "\n  ") for p in problems)
        )
    return recipe


def _has_inner(loc: Sequence[object], errors: Sequence[Any]) -> bool:
    return any(len(e["loc"]) > len(loc) and e["loc"][: len(loc)] == loc for e in errors)


def _twice(given: Sequence[str]) -> str | None:
    return next((item for i, item in enumerate(given) if item in given[:i]), None)


KINDS: dict[str, type[BaseModel]] = {"heads": HeadEntry, "search": Search, "parameters": Parameter}


def _explain(error: Any) -> str:
    loc = [str(part) for part in error["loc"]]
    path = ".".join(loc)
    if error["type"] == "extra_forbidden":
        kind = next((KINDS[part] for part in reversed(loc[:-1]) if part in KINDS), Recipe)
        names = [name for name in kind.model_fields if not (kind is Recipe and name == "name")]
        near = difflib.get_close_matches(loc[-1], names, n=1, cutoff=0.5)
        return f"{path}: unknown key; " + (f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}")
    message = error["msg"].removeprefix("Value error, ")
    given = "" if isinstance(error["input"], dict | Recipe) else f", not {error['input']!r}"
    return f"{path or 'recipe'}: {message}{given}"
