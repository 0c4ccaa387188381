"""`Ensemble`: which published classifiers vote in `mmsa score pretrained`, and what their labels mean."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mmsa.errors import UsageError, unknown
from mmsa.paths import cache_dir
from mmsa.tasks import MELD_EMOTIONS

EMOTIONS = MELD_EMOTIONS
"""The classes of what is scored, in order."""

EXTRACTORS = {"text": "text.classifier", "audio": "speech.classifier", "vision": "facial.classifier"}
"""What runs the classifier of each modality."""

FILES = {
    "text": ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    "audio": ("config.json", "model.safetensors", "preprocessor_config.json"),
    "vision": ("config.json", "model.safetensors", "preprocessor_config.json"),
}
"""The files that a model's folder must hold."""

DEFAULT = Path(__file__).with_name("pretrained.yaml")

Valence = Annotated[float, Field(ge=-1, le=1)]


class Label(BaseModel):
    """What one label of a classifier means.

    In YAML: the name of an emotion; null for a label that means none of them; or both fields, for labels that stand
    between emotions or have a valence of their own.

    Attributes:
        emotion: how much of it is which emotion, summing to 1; empty for none.
        valence: from -1 (negative) to 1; None takes that of the emotions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    emotion: dict[str, Annotated[float, Field(gt=0, le=1)]]
    valence: Valence | None = None

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, given: Any) -> Any:
        given = {"emotion": given} if given is None or isinstance(given, str) else given
        if not isinstance(given, dict):
            return given
        emotion = given.get("emotion")
        return {**given, "emotion": {} if emotion is None else {emotion: 1.0} if isinstance(emotion, str) else emotion}

    @field_validator("emotion")
    @classmethod
    def _known(cls, given: dict[str, float]) -> dict[str, float]:
        for name in given:
            if name not in EMOTIONS:
                raise ValueError(str(unknown("emotion", name, EMOTIONS)))
        if given and abs(sum(given.values()) - 1) > 1e-6:
            raise ValueError(f"the shares of a label must sum to 1, not {sum(given.values()):g}")
        return given


class Member(BaseModel):
    """One classifier.

    Attributes:
        model: id on the hub, a folder, or `package:NAME/FOLDER`.
        revision: commit, tag or branch of a hub model.
        licence: what is known of its terms, in a line.
        weight: how much its vote counts.
        labels: what each of its labels means.
        parameters: others of the extractor that runs it, such as `frames_per_second`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    revision: str | None = None
    licence: str = "not stated"
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    labels: dict[str, Label]
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not any(label.emotion for label in self.labels.values()):
            raise ValueError("at least one of the labels must mean an emotion")
        folded = [name.casefold() for name in self.labels]
        if len(set(folded)) < len(folded):
            raise ValueError("two labels differ in case only, which does not tell them apart")
        return self

    def match(self, labels: Sequence[str]) -> list[Label]:
        """What the labels of the model mean, in its order; case does not matter.

        Raises:
            UsageError: the map lacks a label of the model, or has one that the model has not.
        """
        own = {name.casefold(): label for name, label in self.labels.items()}
        lacking = [name for name in labels if name.casefold() not in own]
        extra = [name for name in self.labels if name.casefold() not in {label.casefold() for label in labels}]
        if lacking or extra:
            told = [
                f"{what} {', '.join(map(repr, wrong))}"
                for what, wrong in (("the map lacks", lacking), ("the model has no", extra))
                if wrong
            ]
            raise UsageError(
                f"{self.model} has the labels {', '.join(labels)}: {'; '.join(told)}. Give each of its labels an "
                "emotion, or null where it means none"
            )
        return [own[name.casefold()] for name in labels]


class Ensemble(BaseModel):
    """The classifiers that vote, by modality; a modality that is left out is not looked at.

    Attributes:
        text: reads what is said.
        audio: listens.
        vision: looks at the face.
        valence: of each emotion, for labels that name none.
        models: the folder in which models are looked for, each under its hub id; None is `$MMSA_MODELS`, or `models` in
            mmsa's cache.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Member | None = None
    audio: Member | None = None
    vision: Member | None = None
    valence: dict[str, Valence]
    models: Path | None = None

    @field_validator("valence")
    @classmethod
    def _of_each_emotion(cls, given: dict[str, float]) -> dict[str, float]:
        if set(given) != set(EMOTIONS):
            wrong = sorted(set(given) ^ set(EMOTIONS))
            raise ValueError(f"needs each of {', '.join(EMOTIONS)} once and nothing else ({', '.join(wrong)})")
        return given

    @model_validator(mode="after")
    def _someone_votes(self) -> Self:
        if not self.members:
            raise ValueError(f"at least one of {', '.join(EXTRACTORS)} must have a classifier")
        return self

    def __hash__(self) -> int:
        """Equal ensembles hash alike, so that a process can keep what it loaded for one."""
        return hash(self.model_dump_json())

    @property
    def members(self) -> dict[str, Member]:
        """By modality; only those that are there."""
        given = {"text": self.text, "audio": self.audio, "vision": self.vision}
        return {key: member for key, member in given.items() if member is not None}

    @property
    def folder(self) -> Path:
        """Where models are looked for before the hub is asked."""
        named = os.environ.get("MMSA_MODELS")
        return self.models or (Path(named).expanduser() if named else cache_dir() / "models")

    def place(self, modality: str) -> Path | None:
        """The folder for a model of the hub; None for one that is given as a folder or package itself."""
        model = self.members[modality].model
        is_id = model.count("/") <= 1 and not model.startswith((".", "/", "~", "package:")) and not Path(model).is_dir()
        return self.folder / model if is_id else None


def read_ensemble(
    file: Path | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    modalities: Sequence[str] | None = None,
    models: Path | None = None,
) -> Ensemble:
    """Read which classifiers vote.

    Args:
        file: a YAML file such as `mmsa/scoring/pretrained.yaml`, which is used without one. Folders in it are relative
            to it.
        options: values that win over the file's; dotted keys reach inside (`"text.weight"`). Another `text.model` drops
            the file's revision and licence, which are those of the old one.
        modalities: only these.
        models: see `Ensemble`.

    Raises:
        UsageError: the file cannot be read, or holds unknown keys or wrong values; all are named at once.
    """
    from mmsa.config import put_setting, read_yaml

    source = file or DEFAULT
    data = read_yaml(source)
    data.setdefault("valence", read_yaml(DEFAULT)["valence"])
    for key, value in (options or {}).items():
        put_setting(data, key.split("."), value)
    for key in EXTRACTORS:
        member = data.get(key)
        if not isinstance(member, dict):
            continue
        if f"{key}.model" in (options or {}):
            for stale in {"revision", "licence"} - {one.removeprefix(f"{key}.") for one in options or {}}:
                member.pop(stale, None)
        elif isinstance(model := member.get("model"), str) and (source.parent / model).is_dir():
            member["model"] = str((source.parent / model).resolve())
    if modalities is not None:
        _choose(data, modalities, source)
    if models is not None:
        data["models"] = models
    try:
        return Ensemble.model_validate(data)
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in _explained(error))
        raise UsageError(f"the classifiers of {source} are not valid:\n{lines}") from None


def _choose(data: dict[str, Any], modalities: Sequence[str], source: Path) -> None:
    there = [key for key in EXTRACTORS if data.get(key) is not None]
    for name in modalities:
        if name not in there:
            raise unknown(f"classifier in {source.name} for the modality", name, there)
    if not modalities:
        raise UsageError(f"modalities must name at least one of {', '.join(there)}")
    for name in set(there) - set(modalities):
        del data[name]


def _explained(error: ValidationError) -> Iterator[str]:
    for one in error.errors():
        path = ".".join(str(part) for part in one["loc"])
        if one["type"] == "extra_forbidden":
            holder = (Label if "labels" in one["loc"] else Member if len(one["loc"]) > 1 else Ensemble).model_fields
            near = difflib.get_close_matches(str(one["loc"][-1]), list(holder), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(holder)}"
            yield f"{path}: unknown key; {hint}"
            continue
        given = "" if isinstance(one["input"], dict) or one["type"] == "missing" else f", not {one['input']!r}"
        yield f"{path or 'the file'}: {one['msg'].removeprefix('Value error, ')}{given}"
