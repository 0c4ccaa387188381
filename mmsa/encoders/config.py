"""`EncoderConfig`: a pretrained encoder that is run, or trained, together with the head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

RAW = {"text": "text.tokens", "audio": "speech.waveform", "vision": "vision.pixels"}
"""The extractor that gives what an encoder of a modality reads."""

LEARNING_RATES = {"lora": 2e-4, "full": 2e-5}
"""Where nothing is said: what the papers on adapters and on full fine-tuning use for encoders of this kind."""

WEIGHT_DECAY = 0.01

_OWN = {"unit": "text", "pooling": "vision", "frames_per_second": "vision"}
_LORA = ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")
_TUNED = ("learning_rate", "weight_decay", "gradient_checkpointing")


class EncoderConfig(BaseModel):
    """A pretrained encoder of `transformers` for one modality, and how much of it is trained.

    Attributes:
        model: a model id of the Hugging Face hub, a local folder, or `"package:NAME/FOLDER"` for a folder inside an
            installed package; with safetensors weights and the files of its tokenizer or preprocessor.
        revision: commit, tag or branch of a hub model.
        tune: `"frozen"` (nothing of it), `"lora"` (low-rank adapters beside its linear layers, Hu et al. 2022; needs
            `peft`), or `"full"` (every weight).
        learning_rate: of its weights, at its highest; it follows the schedule of the training. None is 2e-4 for
            adapters and 2e-5 for full tuning.
        weight_decay: of its weights; never of biases and normalisation layers. None is 0.01.
        layer: which hidden states the head sees: 0 the embeddings, -1 the last layer.
        unit: of text: a step per `"word"` (its pieces averaged) or per `"subword"`. None is `"word"`.
        pooling: of pictures: the `"cls"` token or the `"mean"` over patches. None is `"cls"`.
        frames_per_second: of video: how many pictures are looked at. None is 2.
        lora_rank: of the adapters.
        lora_alpha: adapters are scaled by `lora_alpha / lora_rank`.
        lora_dropout: of what adapters read.
        lora_targets: names of the layers that get one, such as `[query, value]`; None is every linear layer.
        gradient_checkpointing: keep no activations within layers and compute them again in the backward pass: less
            memory, about a third more time, the same numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    tune: Literal["frozen", "lora", "full"]
    revision: str | None = None
    learning_rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    weight_decay: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    layer: int = -1
    unit: Literal["word", "subword"] | None = None
    pooling: Literal["cls", "mean"] | None = None
    frames_per_second: float | None = Field(default=None, gt=0, le=120)
    lora_rank: Annotated[int, Field(ge=1)] = 8
    lora_alpha: float = Field(default=16.0, gt=0, allow_inf_nan=False)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    lora_targets: tuple[str, ...] | None = Field(default=None, min_length=1)
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> Self:
        if self.tune != "lora" and (given := self._given(_LORA)):
            raise ValueError(f"{', '.join(given)} belong to tune: lora, which is {self.tune}")
        if self.tune == "frozen" and (given := self._given(_TUNED)):
            raise ValueError(f"{', '.join(given)} have no effect on an encoder that is not trained (tune: frozen)")
        return self

    def _given(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if getattr(self, name) != type(self).model_fields[name].default]

    def foreign(self, modality: str) -> dict[str, str]:
        """Settings that belong to other modalities, with these."""
        return {name: own for name, own in _OWN.items() if own != modality and getattr(self, name) is not None}

    def rate(self) -> float:
        """The learning rate at its highest."""
        return LEARNING_RATES[self.tune] if self.learning_rate is None else self.learning_rate

    def decay(self) -> float:
        """The weight decay."""
        return WEIGHT_DECAY if self.weight_decay is None else self.weight_decay

    def raw_parameters(self, modality: str) -> dict[str, Any]:
        """What the extractor of `RAW` takes for this modality."""
        if modality == "audio":
            return {}
        parameters: dict[str, Any] = {"model": self.model}
        if self.revision is not None:
            parameters["revision"] = self.revision
        if self.frames_per_second is not None:
            parameters["frames_per_second"] = self.frames_per_second
        return parameters


def encoder_mistakes(encoders: Mapping[str, EncoderConfig], extractors: Mapping[str, object]) -> list[str]:
    """What is wrong with a configuration's encoders beside each other and its extractors, in sentences."""
    import difflib

    found = []
    for modality, own in encoders.items():
        if modality not in RAW:
            near = difflib.get_close_matches(modality, RAW, n=1, cutoff=0.5)
            hint = f"; did you mean encoders.{near[0]}?" if near else ""
            found.append(f"encoders.{modality}: there are encoders for {', '.join(RAW)}{hint}")
            continue
        found += [f"encoders.{modality}.{name} belongs to {other}" for name, other in own.foreign(modality).items()]
        if modality in extractors:
            found.append(
                f"extractors.{modality} has no effect beside encoders.{modality}, which reads {RAW[modality]}: "
                "leave one of them out"
            )
    return found
