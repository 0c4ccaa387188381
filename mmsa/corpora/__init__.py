"""Corpora: adapters that read official layouts into a `Corpus`."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import cast

from mmsa.corpora.clip import SPLITS, Clip, Corpus, Split
from mmsa.errors import UsageError, unknown

__all__ = ["CORPORA", "SPLITS", "Clip", "Corpus", "Split", "load_corpus"]

CORPORA = {"demo": "mmsa.corpora.demo:load_demo", "meld": "mmsa.corpora.meld:load_meld"}
"""Adapter by corpus name: `"module:function"`, imported at use."""

RENDERED = frozenset({"demo"})
"""Corpora that need no folder of the user's."""


def load_corpus(name: str, root: Path | str | None = None) -> Corpus:
    """Read a corpus.

    Args:
        name: one of `CORPORA`.
        root: the folder that holds the corpus in its official layout. None looks in `$MMSA_DATA/<name>`; the
            demo corpus needs no folder.

    Raises:
        UsageError: unknown name, no folder, or a layout that is not the official one.
    """
    if name not in CORPORA:
        raise unknown("corpus", name, CORPORA)
    module, function = CORPORA[name].split(":")
    adapter = getattr(import_module(module), function)
    if name in RENDERED:
        if root is not None:
            raise UsageError(f"the corpus {name!r} renders itself: leave --root {root} out")
        return cast(Corpus, adapter())
    return cast(Callable[[Path], Corpus], adapter)(find_root(name, root))


def find_root(name: str, root: Path | str | None) -> Path:
    """The folder of a corpus: the given one, or `$MMSA_DATA/<name>`.

    Raises:
        UsageError: neither is there.
    """
    data = os.environ.get("MMSA_DATA")
    if root is None and not data:
        raise UsageError(
            f"the corpus {name!r} is not part of mmsa: give its folder with --root FOLDER, "
            f"or set MMSA_DATA to a folder that holds {name}/"
        )
    folder = Path(root) if root is not None else Path(data or "") / name
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}: give the folder of the corpus {name!r} with --root FOLDER")
    return folder
