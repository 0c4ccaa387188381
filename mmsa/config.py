"""`TrainConfig`: everything that decides a training run, validated whole before any work."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmsa.errors import UsageError

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class ExtractorConfig(BaseModel):
    """An extractor by registry name or dotted path, with the parameters that differ from its defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


DEFAULT_EXTRACTORS = {
    "text": ExtractorConfig(name="text.lexical"),
    "audio": ExtractorConfig(name="speech.librosa"),
    "vision": ExtractorConfig(name="facial.facemesh"),
}


class TrainConfig(BaseModel):
    """A training run.

    Attributes:
        corpus: registry name of the corpus, or a table or folder of the user's (see `mmsa.corpora.table`).
        root: the folder of a registered corpus; None looks in `$MMSA_DATA/<corpus>`.
        fusion: the head's short name or class name.
        head: keyword arguments of the head, beside its sizes.
        modalities: which to use; None takes all that the corpus has.
        tasks: which to learn; None takes the corpus's default ones.
        extractors: by modality; those not named keep their default.
        seed: of weights, dropout and the order of batches.
        epochs: at most so many.
        patience_epochs: stop after so many epochs without a better validation loss.
        batch_size: clips per step.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        clip_norm: largest gradient norm.
        modality_dropout: chance that a modality of a training clip is masked out; the last one never is.
        unimodal_weight: how much the head's unimodal predictions count in the loss.
        grid_steps: length of the common grid for heads that need alignment.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        jobs: processes that extract features; None is one per core.
        experiment: MLflow experiment; None is `mmsa-<corpus>`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus: str = "demo"
    root: Path | None = None
    fusion: str = "late"
    head: dict[str, Any] = Field(default_factory=dict)
    modalities: tuple[str, ...] | None = None
    tasks: tuple[str, ...] | None = None
    extractors: dict[str, ExtractorConfig] = Field(default_factory=dict)
    seed: int = Field(default=1, ge=0)
    epochs: Positive = 60
    patience_epochs: Positive = 10
    batch_size: Positive = 32
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    modality_dropout: Fraction = 0.2
    unimodal_weight: float = Field(default=0.3, ge=0)
    grid_steps: Positive = 32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    jobs: Positive | None = None
    experiment: str | None = None

    @model_validator(mode="after")
    def _nothing_empty_or_twice(self) -> Self:
        for name in ("modalities", "tasks"):
            given = getattr(self, name)
            if given is not None and (not given or len(set(given)) < len(given)):
                raise ValueError(f"{name} must name at least one, each once, not {list(given)}")
        return self

    def extractor(self, modality: str) -> ExtractorConfig:
        """The extractor for a modality.

        Raises:
            UsageError: none is configured.
        """
        known = {**DEFAULT_EXTRACTORS, **self.extractors}
        if modality not in known:
            raise UsageError(
                f"no extractor is configured for the modality {modality!r}: known are {', '.join(sorted(known))}; "
                f"add one with --set extractors.{modality}.name=…"
            )
        return known[modality]


def make_config(file: Path | None = None, options: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read a YAML file and lay options over it.

    Args:
        file: a YAML mapping with the keys of `TrainConfig`.
        options: values that win over the file's; dotted keys reach inside (`"head.hidden_dim"`).

    Raises:
        UsageError: the file cannot be read, or holds unknown keys or wrong values; all are named at once.
    """
    data = _read_yaml(file) if file is not None else {}
    for key, value in (options or {}).items():
        _put(data, key.split("."), value)
    try:
        return TrainConfig.model_validate(data)
    except ValidationError as error:
        where = f" in {file}" if file else ""
        lines = "\n".join(f"  {_explain(e)}" for e in error.errors())
        raise UsageError(f"the configuration{where} is not valid:\n{lines}") from None


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`["head.hidden_dim=32", …]` → dotted keys with YAML values.

    Raises:
        UsageError: no `=`.

    Example:
        >>> parse_settings(["epochs=3", "head.combination=mean"])
        {'epochs': 3, 'head.combination': 'mean'}
    """
    import yaml

    parsed: dict[str, Any] = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign or not key:
            raise UsageError(f"--set takes key=value, such as epochs=20 or head.hidden_dim=32, not {setting!r}")
        try:
            parsed[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"the value of --set {setting} is not YAML: {error}") from None
    return parsed


def _read_yaml(file: Path) -> dict[str, Any]:
    import yaml

    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the configuration {file}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not YAML: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UsageError(f"{file} must hold a mapping of settings, not a {type(data).__name__}")
    return data


def _put(data: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        inner = data.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {'.'.join(path)} reaches into {key!r}, which is {inner!r} and holds no settings")
        data = inner
    data[path[-1]] = value


def _explain(error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        names = list((ExtractorConfig if path.startswith("extractors.") else TrainConfig).model_fields)
        near = difflib.get_close_matches(str(error["loc"][-1]), names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
        return f"{path}: unknown key; {hint}"
    given = "" if isinstance(error["input"], dict) else f", not {error['input']!r}"
    return f"{path or 'settings'}: {error['msg']}{given}"
