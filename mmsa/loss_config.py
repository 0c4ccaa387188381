"""`LossConfig`: the `loss` section of a configuration; `mmsa.losses` says what each choice computes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LossConfig(BaseModel):
    """What a training minimises.

    Attributes:
        regression: loss of tasks that predict a number: mean absolute or squared error, Huber's, or one minus Lin's
            concordance over the batch.
        huber_delta: error, in halves of the task's range, from which Huber's loss grows linearly.
        classification: loss of tasks that predict classes, one or several.
        focal_gamma: how much the focal loss plays down clips that are classified well; 0 is cross-entropy.
        class_weights: `"none"`; `"balanced"`, by the counts of the training split; or by task and class, 1 where none
            is named. For several classes at once it is the weight of a class's presence against its absence.
        label_smoothing: share of the target that is spread evenly over the classes.
        task_weights: by task, 1 where none is named, in proportion; or `"learned"`.
        unimodal_weight: of the unimodal predictions of heads that have them, shared by the modalities.
        head_weight: of the losses that the head asks for itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    regression: Literal["l1", "mse", "huber", "ccc"] = "l1"
    huber_delta: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    classification: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: Weight = 2.0
    class_weights: Literal["none", "balanced"] | dict[str, dict[str, Weight]] = "none"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    task_weights: Literal["learned"] | dict[str, Weight] = Field(default_factory=dict)
    unimodal_weight: Weight = 0.3
    head_weight: Weight = 1.0

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> Self:
        for name, choice in (("huber_delta", "regression"), ("focal_gamma", "classification")):
            owner = name.split("_")[0]
            if getattr(self, choice) != owner and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} belongs to {choice}: {owner}, which is {getattr(self, choice)}")
        return self
