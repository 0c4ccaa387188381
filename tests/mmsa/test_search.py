from __future__ import annotations

from typing import Any

import pytest

from fusion import head_classes
from mmsa.config import TrainConfig, make_config
from mmsa.errors import UsageError
from mmsa.recipe import Parameter, Search
from mmsa.search import (
    FIXED,
    USUAL,
    check_head_options,
    decode_choice,
    encode_choice,
    ends,
    head_options,
    plan_search,
    setting_of,
    starting_point,
    with_settings,
)


def search(**parameters: Any) -> Search:
    named = {key.replace("__", "."): value for key, value in parameters.items()}
    return Search.model_validate({"parameters": named})


def test_a_setting_of_every_section_can_be_searched() -> None:
    wanted = search(
        learning_rate={"low": 1e-4, "high": 1e-2, "log": True},
        loss__classification={"choices": ["cross_entropy", "focal"]},
        head__hidden_dim={"low": 8, "high": 64, "kind": "int"},
    )
    found, absent = plan_search(TrainConfig(), wanted)
    assert (found, absent) == (wanted, ())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("learning_rte", {"choices": [1e-3]}, "learning_rte'. Did you mean 'learning_rate'?"),
        ("loss.regresion", {"choices": ["l1"]}, "loss.regresion: unknown key; did you mean 'regression'?"),
        ("learning_rate", {"low": -1.0, "high": 1.0}, "with learning_rate = -1.0"),
        ("modality_dropout", {"low": 0.0, "high": 1.5}, "with modality_dropout = 1.5"),
        ("batch_size", {"choices": [16, "many"]}, "with batch_size = 'many'"),
        ("epochs", {"low": 1.0, "high": 9.0}, None),
        ("corpus", {"choices": ["meld"]}, "corpus cannot be searched: a sweep is on one corpus"),
        ("extractors.text.name", {"choices": ["a"]}, "features are made once for all trials"),
        ("seed", {"choices": [1, 2]}, "a seed that was lucky on the validation split is no setting"),
        ("head", {"choices": [{}]}, "name the option, such as head.hidden_dim"),
    ],
)
def test_what_is_not_valid_at_either_end_is_refused(key: str, value: Any, message: str | None) -> None:
    if message is None:  # whole numbers as floats are read as whole numbers
        plan_search(TrainConfig(), Search.model_validate({"parameters": {key: value}}))
        return
    with pytest.raises(UsageError) as caught:
        plan_search(TrainConfig(), Search.model_validate({"parameters": {key: value}}))
    assert message in str(caught.value)


def test_everything_fixed_is_a_setting() -> None:
    assert set(FIXED) <= set(TrainConfig.model_fields)


def test_options_that_one_head_lacks_are_left_out_and_those_of_none_refused() -> None:
    wanted = search(head__hidden_dim={"choices": [8]}, head__combination={"choices": ["mean"]})
    assert "combination" in head_options("late")
    assert "combination" not in head_options("early")
    found, absent = plan_search(TrainConfig(fusion="early"), wanted)
    assert tuple(found.parameters) == ("head.hidden_dim",)
    assert absent == ("head.combination",)
    check_head_options(wanted, ["early", "late"])
    with pytest.raises(UsageError, match=r"there is no option of the head early, for search.parameters, 'combination'"):
        check_head_options(wanted, ["early"])
    with pytest.raises(UsageError, match="Did you mean 'hidden_dim'"):
        check_head_options(search(head__hiden_dim={"choices": [8]}), ["late"])
    only = search(head__combination={"choices": ["mean"]})
    with pytest.raises(
        UsageError, match=r"nothing is left to search for the head 'early': it takes no head.combination"
    ):
        plan_search(TrainConfig(fusion="early"), only)


@pytest.mark.parametrize("head", sorted(head_classes()))
def test_the_usual_space_fits_every_head(head: str) -> None:
    """Each end of each range builds the head, at the sizes of the three default extractors or nearly so."""
    from mmsa.model import ModelConfig, build_head

    config = make_config(None, {"fusion": head})
    found, absent = plan_search(config, None)
    assert set(found.parameters) | set(absent) == set(USUAL)
    for key, parameter in found.parameters.items():
        for value in ends(parameter) if key.startswith("head.") else ():
            options = with_settings(config, {key: value}).head
            known = {"label_columns": [0], "label_range": 3.0}
            options |= {name: own for name, own in known.items() if name in head_options(head)}
            build_head(ModelConfig(head, {"audio": 8, "text": 12, "vision": 10}, 1, options))


def test_the_start_is_what_the_configuration_says() -> None:
    wanted = search(
        learning_rate={"low": 1e-4, "high": 1e-2, "log": True},
        epochs={"low": 1, "high": 10, "kind": "int"},
        head__hidden_dim={"choices": [16, 32]},
        head__dropout={"low": 0.0, "high": 0.5},
        bucketing={"choices": [0, 1]},
    )
    config = make_config(None, {"head.hidden_dim": 32, "learning_rate": 5e-3})
    start = starting_point(config, wanted)
    assert start["learning_rate"] == 5e-3
    assert start["head.hidden_dim"] == 32
    assert start["head.dropout"] == setting_of(config, "head.dropout")  # the head's own default
    assert "epochs" not in start  # 60 lies outside
    assert "bucketing" not in start  # True is not among 0 and 1
    with pytest.raises(KeyError):
        setting_of(config, "head.input_dims")


def test_choices_of_any_kind_come_back() -> None:
    own = Parameter(choices=(1, 1.0, "1", None, True, [1, 2], {"a": 1}))
    for choice in own.choices or ():
        back = decode_choice(own, encode_choice(choice))
        assert back == choice
        assert type(back) is type(choice)


def test_settings_reach_inside_and_leave_the_rest() -> None:
    config = make_config(None, {"head.hidden_dim": 8, "loss.regression": "mse"})
    changed = with_settings(config, {"head.dropout": 0.1, "loss.unimodal_weight": 0.0})
    assert changed.head == {"hidden_dim": 8, "dropout": 0.1}
    assert (changed.loss.regression, changed.loss.unimodal_weight) == ("mse", 0.0)
    assert config.head == {"hidden_dim": 8}
