from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mmsa.config import make_config
from mmsa.errors import UsageError
from mmsa.loss_config import LossConfig


def test_every_setting_can_be_reached_from_the_command_line() -> None:
    config = make_config(
        options={
            "loss.classification": "focal",
            "loss.focal_gamma": 1,
            "loss.class_weights": "balanced",
            "loss.task_weights.sentiment": 0.5,
            "loss.head_weight": 0.1,
        }
    )
    assert config.loss == LossConfig(
        classification="focal",
        focal_gamma=1.0,
        class_weights="balanced",
        task_weights={"sentiment": 0.5},
        head_weight=0.1,
    )
    assert make_config(options={"loss.class_weights.emotion.joy": 2}).loss.class_weights == {"emotion": {"joy": 2.0}}


def test_a_configuration_survives_json() -> None:
    config = LossConfig(regression="huber", huber_delta=0.2, task_weights="learned", class_weights={"e": {"a": 2.0}})
    assert LossConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"regression": "l2"}, "l1"),
        ({"focal_gamma": 1.0}, "focal_gamma belongs to classification: focal, which is cross_entropy"),
        ({"huber_delta": 1.0, "regression": "mse"}, "huber_delta belongs to regression: huber, which is mse"),
        ({"label_smoothing": 1.0}, "less than 1"),
        ({"head_weight": -1}, "greater than or equal to 0"),
        ({"unimodal_weight": float("inf")}, "finite"),
        ({"class_weights": "equal"}, "none"),
        ({"task_weights": "equal"}, "learned"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LossConfig(**settings)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("loss.clas_weights", "did you mean 'class_weights'"),
        ("class_weights", "did you mean 'loss.class_weights'"),
        ("unimodal_weight", "did you mean 'loss.unimodal_weight'"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(key: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        make_config(options={key: "balanced"})
