"""`TrainConfig`: everything that decides a training run, validated whole before any work."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mmsa.encoders.config import RAW, EncoderConfig, encoder_mistakes
from mmsa.errors import UsageError
from mmsa.loss_config import LossConfig
from mmsa.words import WordOptions

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


MOST_CELLS_PER_SECOND = 1000.0


def _as_grid(given: object) -> object:
    if given is None or given == "words":
        return given
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if number and 0 < given <= MOST_CELLS_PER_SECOND:  # type: ignore[operator]
        return float(given)  # type: ignore[arg-type]
    raise ValueError(f"a grid is words, or a number of cells per second up to {MOST_CELLS_PER_SECOND:g}")


class ExtractorConfig(BaseModel):
    """An extractor by registry name or dotted path, with the parameters that differ from its defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class WordsConfig(BaseModel):
    """Where a corpus's words come from beside its transcripts; the names are those of `mmsa score`'s options.

    Attributes:
        transcribe: a Whisper, by hub id or local folder, that recognises what is said in clips without a transcript.
        language: what is spoken, as a code or an English name; None lets the model hear it in each clip.
        align: a CTC model, by hub id or local folder, that finds when the words of transcripts are said.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    transcribe: str | None = None
    language: str | None = None
    align: str | None = None

    @property
    def options(self) -> WordOptions:
        """The same for `mmsa.words`."""
        return WordOptions(self.transcribe, self.language, self.align)

    @model_validator(mode="after")
    def _language_of_something(self) -> Self:
        if self.language is not None and not self.options.listens:
            raise ValueError("language has no effect without transcribe or align")
        return self


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
        extractors: by modality; those not named keep their default. Parameters without a name are the default's.
        words: speech models for clips without a transcript, and for transcripts without times (see `WordsConfig`).
        encoders: by modality: pretrained encoders that run in front of the head, and may be trained with it (see
            `mmsa.encoders.config.EncoderConfig`). Other modalities keep their extracted features.
        seed: of weights, dropout and the order of batches.
        epochs: at most so many.
        patience_epochs: stop after so many epochs without a better one.
        batch_size: clips per step, or per part of one where `accumulate` is above 1.
        bucketing: put clips of like length into a batch, so that little is padded; which ones stays random.
        accumulate: batches whose gradients make one update, as if they were one batch.
        part_steps: a batch with more padded steps than this, over all modalities, is computed in parts of clips of like
            length, whose gradients add up: the bound on memory. The update is the same, but for losses that relate
            clips to each other (concordance, those of some heads). None is 4096 on the CPU, where larger parts only
            cost cache, and no bound on a CUDA device or with such losses.
        learning_rate: of AdamW, at its highest.
        schedule: `"constant"`; `"cosine"`, down to `final_share` over all `epochs`; or `"plateau"`, times
            `plateau_factor` each time that `plateau_epochs` epochs brought no better one.
        warmup_epochs: over which the learning rate rises to its highest; may be a fraction.
        final_share: of the learning rate that a cosine ends at.
        plateau_epochs: see `schedule`.
        plateau_factor: see `schedule`.
        weight_decay: of AdamW.
        clip_norm: largest gradient norm.
        ema_decay: of a moving average of the weights, which is evaluated and kept in their place; 0 is none.
        precision: of head and encoders while training: `"float32"`; `"bf16"`, on any device; or `"fp16"` with loss
            scaling, on CUDA. Weights, losses and every evaluation are float32.
        sharding: of a training in several processes: `"none"`, each holds the whole model; or `"full"`, parameters,
            gradients and optimiser are spread over them, for models too large for one device.
        compile: let `torch.compile` translate the head for training; the first steps take long, later ones less.
        modality_dropout: chance that a modality of a training clip is masked out; the last one never is.
        loss: what is minimised (see `LossConfig`).
        select: what makes an epoch the best one: `"loss"` or `"<task>.<metric>"`, both on the validation split.
        grid: the times that the features of all modalities are pooled onto before the head, whichever it is: `"words"`,
            a step per word; or a number of cells per second (see `mmsa.features.aligned`). None leaves each modality
            its own steps.
        grid_steps: without `grid`, the length of the common grid for heads that need alignment, which is laid over a
            clip by the number of its steps; None takes the features' own steps, for corpora whose modalities are
            aligned already.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        resident_mb: features of up to so many megabytes are kept on a CUDA device; those beyond are read from disk as
            batches need them. None is half of the device's free memory. On the CPU they are always memory-mapped.
        checkpoints: keep, next to the MLflow store, what a killed run is resumed from: written after every epoch,
            deleted when the run is finished.
        checkpoint_steps: write it after so many updates within an epoch, too.
        jobs: processes that extract features; None is one per core.
        feature_dtype: how extracted features are kept: `"float32"`, or `"float16"` for half the disk and 11
            significant bits. Ready-made ones stay as they are.
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
    words: WordsConfig = Field(default_factory=WordsConfig)
    encoders: dict[str, EncoderConfig] = Field(default_factory=dict)
    seed: int = Field(default=1, ge=0)
    epochs: Positive = 60
    patience_epochs: Positive = 10
    batch_size: Positive = 32
    bucketing: bool = True
    accumulate: Positive = 1
    part_steps: Positive | None = None
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    warmup_epochs: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    final_share: Fraction = 0.0
    plateau_epochs: Positive = 3
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    weight_decay: float = Field(default=1e-2, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    ema_decay: Fraction = 0.0
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    sharding: Literal["none", "full"] = "none"
    compile: bool = False
    modality_dropout: Fraction = 0.2
    loss: LossConfig = Field(default_factory=LossConfig)
    select: str = "loss"
    grid: Annotated[Literal["words"] | float | None, BeforeValidator(_as_grid)] = None
    grid_steps: Positive | None = 32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    resident_mb: int | None = Field(default=None, ge=0)
    checkpoints: bool = True
    checkpoint_steps: Positive | None = None
    jobs: Positive | None = None
    feature_dtype: Literal["float32", "float16"] = "float32"
    experiment: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_names(cls, data: Any) -> Any:
        """Parameters without a name are those of the modality's default extractor."""
        given = data.get("extractors") if isinstance(data, Mapping) else None
        if not isinstance(given, Mapping):
            return data
        named = {
            key: {"name": DEFAULT_EXTRACTORS[key].name, **own}
            for key, own in given.items()
            if isinstance(own, Mapping) and key in DEFAULT_EXTRACTORS
        }
        return {**data, "extractors": {**given, **named}}

    @model_validator(mode="after")
    def _nothing_empty_or_twice(self) -> Self:
        for name in ("modalities", "tasks"):
            given = getattr(self, name)
            if given is not None and (not given or len(set(given)) < len(given)):
                raise ValueError(f"{name} must name at least one, each once, not {list(given)}")
        return self

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> Self:
        for name, kind in (("final_share", "cosine"), ("plateau_epochs", "plateau"), ("plateau_factor", "plateau")):
            if self.schedule != kind and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} belongs to schedule: {kind}, which is {self.schedule}")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"a warm-up of {self.warmup_epochs} epochs leaves nothing of epochs: {self.epochs}")
        if self.grid is not None and self.grid_steps != type(self).model_fields["grid_steps"].default:
            raise ValueError(f"grid_steps has no effect beside grid: {self.grid}, whose cells are the steps")
        if self.grid is not None and self.encoders:
            read = ", ".join(sorted(self.encoders))
            raise ValueError(
                f"grid: {self.grid} pools features before the head, and what the encoders of {read} read cannot be "
                "pooled: leave grid out, or extract these modalities with extractors"
            )
        if self.sharding == "full" and (self.compile or self.precision == "fp16"):
            raise ValueError("sharding: full goes with neither compile nor precision: fp16; bf16 is fine")
        if self.checkpoint_steps is not None and not self.checkpoints:
            raise ValueError("checkpoint_steps needs checkpoints: true")
        return self

    @model_validator(mode="after")
    def _encoders_fit(self) -> Self:
        mistakes = encoder_mistakes(self.encoders, self.extractors)
        unused = sorted(set(self.encoders) - set(self.modalities or self.encoders))
        mistakes += [f"encoders.{key} has no effect: {key} is not among the modalities" for key in unused]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def extractor(self, modality: str) -> ExtractorConfig:
        """The extractor for a modality.

        Raises:
            UsageError: none is configured.
        """
        if modality in self.encoders:
            return ExtractorConfig(name=RAW[modality], parameters=self.encoders[modality].raw_parameters(modality))
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
    data = read_yaml(file) if file is not None else {}
    for key, value in (options or {}).items():
        put_setting(data, key.split("."), value)
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


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
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


def put_setting(data: dict[str, Any], path: list[str], value: Any) -> None:
    """Put a value into nested mappings, in place; those on the way are made.

    Raises:
        UsageError: something on the way is no mapping.
    """
    for key in path[:-1]:
        inner = data.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {'.'.join(path)} reaches into {key!r}, which is {inner!r} and holds no settings")
        data = inner
    data[path[-1]] = value


def _explain(error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        sections: dict[str, type[BaseModel]] = {
            "encoders": EncoderConfig,
            "extractors": ExtractorConfig,
            "loss": LossConfig,
            "words": WordsConfig,
        }
        names = list(sections.get(path.split(".")[0] if "." in path else "", TrainConfig).model_fields)
        inside = {} if "." in path else {name: f"loss.{name}" for name in LossConfig.model_fields}
        near = difflib.get_close_matches(str(error["loc"][-1]), [*names, *inside], n=1, cutoff=0.5)
        hint = f"did you mean {inside.get(near[0], near[0])!r}?" if near else f"known are {', '.join(names)}"
        return f"{path}: unknown key; {hint}"
    given = "" if isinstance(error["input"], dict) else f", not {error['input']!r}"
    return f"{path or 'settings'}: {error['msg']}{given}"
