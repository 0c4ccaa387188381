"""Where mmsa keeps files that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """The folder for files that can be made again; read from the environment at each call and not created here.

    `MMSA_CACHE` where it is set and not empty, else `$XDG_CACHE_HOME/mmsa`, else `~/.cache/mmsa`. As the XDG base
    directory specification asks, a relative `XDG_CACHE_HOME` is ignored.
    """
    own = os.environ.get("MMSA_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if shared and Path(shared).is_absolute():
        return Path(shared) / "mmsa"
    return Path.home() / ".cache" / "mmsa"
