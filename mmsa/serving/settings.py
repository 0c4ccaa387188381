"""What a served model may read, and how much of it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mmsa.errors import UsageError, unknown

PREFIX = "MMSA_SERVE_"
"""Environment variables are the settings' names in capitals behind this."""


@dataclass(frozen=True)
class ServeSettings:
    """Limits of a served model.

    Attributes:
        roots: folders below which paths may lie; with none, only uploads are scored.
        max_megabytes: largest file, uploaded or named by its path.
        max_seconds: longest stretch of media that one row may have scored.
        max_rows: most rows of one request that are scored.
        max_windows: most windows along one row's media.
        trust_extractors: run extractors that are not mmsa's own, as `mmsa.scoring.Scorer` explains.
    """

    roots: tuple[Path, ...] = ()
    max_megabytes: float = 64.0
    max_seconds: float = 600.0
    max_rows: int = 64
    max_windows: int = 2000
    trust_extractors: bool = False


SETTINGS = tuple(one.name for one in fields(ServeSettings))


def find_settings(given: Mapping[str, Any]) -> ServeSettings:
    """The settings in force: what was given, else the environment's, else the default.

    Args:
        given: MLflow's `model_config`; None means not given, as a bundle's own record says.

    Raises:
        UsageError: there is no such setting, or a value is wrong.
    """
    for name in given:
        if name not in SETTINGS:
            raise unknown("setting of a served model", name, SETTINGS)
    values = {}
    for name in SETTINGS:
        value, source = given.get(name), f"model_config[{name!r}]"
        if value is None:
            source = PREFIX + name.upper()
            value = os.environ.get(source) or None
        if value is not None:
            values[name] = _READERS[name](value, source)
    return ServeSettings(**values)


def how_to_raise(name: str) -> str:
    """For messages: where a limit is set."""
    return f"{PREFIX}{name.upper()} (or {name} in model_config) sets it"


def _folders(value: Any, source: str) -> tuple[Path, ...]:
    named = value.split(os.pathsep) if isinstance(value, str) else value
    if isinstance(named, Path) or not isinstance(named, list | tuple):
        named = [named]
    folders = []
    for one in named:
        if not isinstance(one, str | Path) or not str(one).strip():
            raise UsageError(f"{source} takes folders (several with {os.pathsep!r} between), not {value!r}")
        folder = Path(one).expanduser()
        if not folder.is_dir():
            raise UsageError(f"{source} names {one}, but there is no such folder")
        folders.append(folder.resolve())
    return tuple(folders)


def _positive(value: Any, source: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not (math.isfinite(number) and number > 0):
        raise UsageError(f"{source} must be a number above 0, not {value!r}")
    return number


def _count(value: Any, source: str) -> int:
    number = _positive(value, source)
    if number != int(number):
        raise UsageError(f"{source} must be a whole number above 0, not {value!r}")
    return int(number)


def _switch(value: Any, source: str) -> bool:
    told = str(value).strip().lower()
    if told not in _SWITCH:
        raise UsageError(f"{source} must be true or false, not {value!r}")
    return _SWITCH[told]


_SWITCH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_READERS: Mapping[str, Callable[[Any, str], Any]] = {
    "roots": _folders,
    "max_megabytes": _positive,
    "max_seconds": _positive,
    "max_rows": _count,
    "max_windows": _count,
    "trust_extractors": _switch,
}
