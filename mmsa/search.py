"""What a sweep may search: settings with their ranges, checked before any work, and a space for who names none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mmsa.config import TrainConfig, make_config
from mmsa.errors import UsageError, unknown
from mmsa.recipe import Parameter, Search

FIXED = {
    "checkpoint_steps": "it changes no number",
    "checkpoints": "a trial that is killed is tried anew",
    "corpus": "a sweep is on one corpus",
    "device": "it changes no number",
    "experiment": "it only says where runs are kept",
    "extractors": "features are made once for all trials",
    "feature_dtype": "features are made once for all trials",
    "fusion": "each head is tuned by itself: name them under heads",
    "grid": "features are put on it once for all trials",
    "jobs": "it changes no number",
    "modalities": "trials must see the same input to be compared",
    "resident_mb": "it changes no number",
    "root": "a sweep is on one corpus",
    "seed": "a seed that was lucky on the validation split is no setting",
    "select": "trials must be judged alike to be compared",
    "tasks": "trials must learn the same to be compared",
    "words": "they are heard once for all trials",
}
"""Settings that cannot be searched, and why."""

RAW_SETTINGS = ("model", "revision", "frames_per_second")
"""Settings of an encoder that decide what it reads."""

USUAL: Mapping[str, Parameter] = {
    "learning_rate": Parameter(low=1e-4, high=1e-2, log=True),
    "weight_decay": Parameter(low=1e-4, high=1e-1, log=True),
    "batch_size": Parameter(choices=(16, 32, 64)),
    "modality_dropout": Parameter(low=0.0, high=0.5),
    # Powers of two, as attention needs a multiple of its heads.
    "head.hidden_dim": Parameter(choices=(16, 32, 64, 128)),
    "head.dropout": Parameter(low=0.0, high=0.5),
}
"""What is searched where a recipe names nothing, as far as the head takes it."""


def plan_search(config: TrainConfig, search: Search | None) -> tuple[Search, tuple[str, ...]]:
    """The space to search for one head, with a valid configuration at each end of each range.

    Args:
        config: the settings that stay.
        search: None searches `USUAL`.

    Returns:
        The space, and the head's options in it that this head does not take and that are left out.

    Raises:
        UsageError: an unknown setting, one that cannot be searched, a value that is not valid, or nothing to search.
    """
    if search is None:
        search = Search(parameters=dict(USUAL))
    options = head_options(config.fusion)
    absent = tuple(key for key in search.parameters if _head_option(key) not in (None, *options))
    parameters = {key: own for key, own in search.parameters.items() if key not in absent}
    for key in parameters:
        _check_searchable(key)
    if not parameters:
        raise UsageError(
            f"nothing is left to search for the head {config.fusion!r}: it takes no {', '.join(absent)}; its options "
            f"are {', '.join(options)}"
        )
    for key, parameter in parameters.items():
        for value in ends(parameter):
            with_settings(config, {key: value})
    return search.model_copy(update={"parameters": parameters}), absent


def check_head_options(search: Search, heads: Sequence[str]) -> None:
    """Every option of a head that is searched is taken by one of the heads at least.

    Raises:
        UsageError: one is taken by none; the nearest one is named.
    """
    known = {option for head in heads for option in head_options(head)}
    for key in search.parameters:
        option = _head_option(key)
        if option is not None and option not in known:
            raise unknown(f"option of the head {' or '.join(heads)}, for search.parameters,", option, known)


def head_options(name: str) -> tuple[str, ...]:
    """What a head takes beside its sizes.

    Raises:
        UsageError: no such head.
    """
    import inspect

    from mmsa.model import check_options

    kind = check_options(name, ())
    parameters = inspect.signature(kind).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in {"input_dims", "output_dim"})


def _head_option(key: str) -> str | None:
    section, dot, option = key.partition(".")
    return option if dot and section == "head" else None


def _check_searchable(key: str) -> None:
    section = key.split(".")[0]
    if section == "encoders" and key.rpartition(".")[2] in RAW_SETTINGS:
        raise UsageError(f"search.parameters.{key} cannot be searched: what encoders read is made once for all trials")
    if section in FIXED:
        raise UsageError(f"search.parameters.{key}: {section} cannot be searched: {FIXED[section]}")
    if section not in TrainConfig.model_fields:
        raise unknown("setting, for search.parameters,", key, set(TrainConfig.model_fields) - set(FIXED))
    if key == "head":
        raise UsageError("search.parameters.head: name the option, such as head.hidden_dim")


def ends(parameter: Parameter) -> tuple[Any, ...]:
    """Both ends of a range, or every choice."""
    if parameter.choices is not None:
        return parameter.choices
    assert parameter.low is not None
    assert parameter.high is not None
    kind = int if parameter.kind == "int" else float
    return kind(parameter.low), kind(parameter.high)


def with_settings(config: TrainConfig, settings: Mapping[str, Any]) -> TrainConfig:
    """A configuration with some settings changed; dotted keys reach inside.

    Raises:
        UsageError: the result is not valid.
    """
    try:
        return make_config(None, {**config.model_dump(), **settings})
    except UsageError as error:
        named = ", ".join(f"{key} = {value!r}" for key, value in settings.items())
        raise UsageError(f"with {named} (search.parameters), {error}") from None


def setting_of(config: TrainConfig, key: str) -> Any:
    """The value that a configuration has for a dotted key; a head's option that it leaves open has its default.

    Raises:
        KeyError: there is none.
    """
    import inspect

    from fusion import head_class

    option = _head_option(key)
    if option is not None and option not in config.head:
        default = inspect.signature(head_class(config.fusion)).parameters[option].default
        if default is inspect.Parameter.empty:
            raise KeyError(key)
        return default
    found: Any = config.model_dump()
    for part in key.split("."):
        found = found[part]
    return found


def starting_point(config: TrainConfig, search: Search) -> dict[str, Any]:
    """What the configuration says without any search, as far as it lies in the space."""
    found = {}
    for key, parameter in search.parameters.items():
        try:
            value = setting_of(config, key)
        except KeyError:
            continue
        if parameter.choices is not None:
            inside = any(value == choice and type(value) is type(choice) for choice in parameter.choices)
        else:
            low, high = ends(parameter)
            inside = isinstance(value, int | float) and low <= value <= high
            inside = inside and (parameter.kind == "float" or isinstance(value, int)) and not isinstance(value, bool)
        if inside:
            found[key] = value if parameter.choices is None else encode_choice(value)
    return found


def encode_choice(choice: Any) -> Any:
    """A choice as a value that Optuna can store: numbers, texts and None as they are, all else as JSON."""
    return choice if choice is None or isinstance(choice, bool | int | float | str) else json.dumps(choice)


def decode_choice(parameter: Parameter, stored: Any) -> Any:
    """What `encode_choice` was given."""
    for choice in parameter.choices or ():
        kept = encode_choice(choice)
        if kept == stored and type(kept) is type(stored):
            return choice
    return stored
