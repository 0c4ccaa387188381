"""Corpora: adapters that read official layouts into a `Corpus`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import cast

from mmsa.corpora.clip import SPLITS, Clip, Corpus, Split
from mmsa.errors import UsageError, unknown

__all__ = ["CORPORA", "SPLITS", "Clip", "Corpus", "Split", "load_corpus"]

CORPORA = {
    "daicwoz": "mmsa.corpora.daicwoz:load_daicwoz",
    "daicwoz-clnf": "mmsa.corpora.daicwoz:load_with_clnf",
    "daicwoz-interviewer": "mmsa.corpora.daicwoz:load_with_interviewer",
    "demo": "mmsa.corpora.demo:load_demo",
    "emorynlp": "mmsa.corpora.emorynlp:load_emorynlp",
    "iemocap": "mmsa.corpora.iemocap:load_iemocap",
    **{f"iemocap-session{n}": f"mmsa.corpora.iemocap:session_{n}" for n in range(1, 6)},
    "meld": "mmsa.corpora.meld:load_meld",
    "mosei": "mmsa.corpora.mosei:load_mosei",
    "mosi": "mmsa.corpora.mosi:load_mosi",
    "mosi-audio": "mmsa.corpora.mosi:load_mosi_audio",
    "mosi-shuffled-audio": "mmsa.corpora.mosi:load_mosi_shuffled_audio",
    "multi_zol": "mmsa.corpora.multi_zol:load_multi_zol",
    "mustard": "mmsa.corpora.mustard:load_mustard",
    **{f"mustard-fold{n}": f"mmsa.corpora.mustard:fold_{n}" for n in range(5)},
    "mustard-context": "mmsa.corpora.mustard:load_with_context",
    **{f"mustard-context-fold{n}": f"mmsa.corpora.mustard:fold_{n}_with_context" for n in range(5)},
    "mustard-context-speaker-independent": "mmsa.corpora.mustard:load_speaker_independent_with_context",
    "mustard-speaker-independent": "mmsa.corpora.mustard:load_speaker_independent",
    "mvsa-multiple": "mmsa.corpora.mvsa:load_mvsa_multiple",
    "mvsa-single": "mmsa.corpora.mvsa:load_mvsa_single",
    "sims": "mmsa.corpora.sims:load_sims",
    "sims-en": "mmsa.corpora.sims:load_sims_en",
    "simsv2": "mmsa.corpora.sims:load_simsv2",
    "twitter2015": "mmsa.corpora.twitter_aspect:load_twitter2015",
    "twitter2017": "mmsa.corpora.twitter_aspect:load_twitter2017",
    "twitter_sarcasm": "mmsa.corpora.twitter_sarcasm:load_twitter_sarcasm",
    "urfunny": "mmsa.corpora.urfunny:load_urfunny",
    "urfunny-context": "mmsa.corpora.urfunny:load_with_context",
    "yelp": "mmsa.corpora.yelp:load_yelp",
}
"""Adapter by corpus name: `"module:function"`, imported at use."""

LANGUAGES = {**dict.fromkeys(CORPORA, "en"), "multi_zol": "zh", "sims": "zh", "simsv2": "zh"}
"""What is said in them, as ISO 639-1 codes; `sims-en` is read in its English translation."""

FOLDERS = {name: name.split("-")[0] for name in CORPORA if "-" in name}
"""Folder in `$MMSA_DATA` of a corpus that shares one with others: what stands before the hyphen."""

RENDERED = frozenset({"demo"})
"""Corpora that need no folder of the user's."""


def load_corpus(name: str, root: Path | str | None = None) -> Corpus:
    """Read a corpus.

    Args:
        name: one of `CORPORA`, or a corpus of the user's: the path of a table, of a folder that holds one, or such a
            folder's name in `$MMSA_DATA` (see `mmsa.corpora.table`).
        root: the folder that holds the corpus in its official layout. None looks in `$MMSA_DATA` (see `find_root`);
            the demo corpus needs no folder.

    Raises:
        UsageError: unknown name, no folder, or a layout that is not the official one.
    """
    if name not in CORPORA:
        return _load_own(name, root)
    module, function = CORPORA[name].split(":")
    adapter = getattr(import_module(module), function)
    if name in RENDERED:
        if root is not None:
            raise UsageError(f"the corpus {name!r} renders itself: leave --root {root} out")
        corpus = cast(Corpus, adapter())
    else:
        corpus = cast(Callable[[Path], Corpus], adapter)(find_root(name, root))
    return replace(corpus, language=LANGUAGES.get(name, corpus.language))


def _load_own(name: str, root: Path | str | None) -> Corpus:
    from mmsa.corpora.table import find_table, load_table

    table = find_table(name)
    if table is None:
        raise unknown("corpus", name, CORPORA)
    if root is not None:
        raise UsageError(f"{table} is a corpus by itself: leave --root {root} out")
    return load_table(table)


def find_root(name: str, root: Path | str | None) -> Path:
    """The folder of a corpus: the given one, or the one in `$MMSA_DATA` named as the corpus or as in `FOLDERS`.

    Raises:
        UsageError: neither is there.
    """
    data, shared = os.environ.get("MMSA_DATA"), FOLDERS.get(name, name)
    if root is None and not data:
        raise UsageError(
            f"the corpus {name!r} is not part of mmsa: give its folder with --root FOLDER, "
            f"or set MMSA_DATA to a folder that holds {shared}/"
        )
    folder = Path(root) if root is not None else Path(data or "") / shared
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}: give the folder of the corpus {name!r} with --root FOLDER")
    return folder
