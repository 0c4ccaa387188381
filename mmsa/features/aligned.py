"""Features of all modalities on one grid of times: the words of a clip, or cells of one length.

What training reads is pooled once per corpus and grid, kept beside the feature store and memory-mapped like it, so that
an epoch costs what it costs without a grid. Scoring pools each stretch by the same function.

A clip has as many rows in every modality as its grid has cells; those that nothing of a modality overlaps are marked as
empty (`FeatureTable.present`). A modality that no cell has is missing, and has no rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from extractors.alignment.grid import Aligned, Spans, align, regular_grid
from extractors.sequence import FeatureSequence
from mmsa.corpora.clip import Corpus
from mmsa.errors import UsageError
from mmsa.features.store import lock_path, store_root
from mmsa.features.table import DamagedTableError, FeatureTable, TableWriter, check_dtype, open_table, table_writer
from mmsa.precomputed import is_precomputed
from mmsa.progress import track

if TYPE_CHECKING:
    from extractors.spec import ExtractorSpec

Grid = Literal["words"] | float
"""`"words"`: a cell per step of the text; or cells per second."""

WORDS = "words"
TEXT = "text"
DEFINITION = 1
"""Counts changes of how cells are made."""


def clip_cells(sequences: Mapping[str, FeatureSequence], grid: Grid, start_seconds: float | None) -> Spans:
    """The cells of one clip, `(N, 2)` seconds.

    Args:
        sequences: of the clip, by modality.
        grid: words: each step of the text is a cell, and a clip without text is a single one; else cells of one length
            from the clip's start to where the last of its features ends.
        start_seconds: where the clip starts; None is the beginning of the media.

    Example:
        >>> clip_cells({"text": FeatureSequence.empty(())}, 2.0, 0.0).shape
        (0, 2)
    """
    there = [sequence.times for sequence in sequences.values() if len(sequence)]
    if not there:
        return np.zeros((0, 2))
    words = sequences.get(TEXT)
    if grid == WORDS and words is not None and len(words):
        return np.asarray(words.times)
    first, last = min(float(t[0, 0]) for t in there), max(float(t[:, 1].max()) for t in there)
    if grid == WORDS:
        return np.array([[first, last]])
    rate = float(grid)
    # An instant at the very end needs a cell that begins there.
    instants = [float(t[t[:, 0] == t[:, 1], 0].max(initial=-np.inf)) + 1 / rate for t in there]
    start = start_seconds or 0.0
    return regular_grid(start, max(start, last, *instants), rate)


def on_grid(sequences: Mapping[str, FeatureSequence], grid: Grid, start_seconds: float | None) -> Aligned:
    """One clip's features pooled onto its cells (see `extractors.alignment.grid.align`); words keep their own values.

    Args:
        sequences: by modality.
        grid: see `clip_cells`.
        start_seconds: see `clip_cells`.
    """
    cells = clip_cells(sequences, grid, start_seconds)
    found = align(sequences, cells)
    words = sequences.get(TEXT)
    if grid == WORDS and words is not None and len(words):
        # Each is its own cell; where the times of two words overlap, pooling would mix them.
        found.values[TEXT], found.present[TEXT] = words.values, np.ones(len(words), np.bool_)
    return found


def check_grid(grid: Grid, specs: Mapping[str, ExtractorSpec]) -> None:
    """Refuse what cannot be put on a grid of times.

    Args:
        grid: which one.
        specs: of every modality.

    Raises:
        UsageError: features without times, or words of a model without text.
    """
    ready = {key: spec.tool for key, spec in sorted(specs.items()) if is_precomputed(spec)}
    if ready:
        named = ", ".join(f"{key} (from {tool})" for key, tool in ready.items())
        raise UsageError(
            f"grid: {grid} needs the times of features, and those that came ready-made have none: {named}. Leave grid "
            "out: heads that need alignment lay one of grid_steps cells over each clip or, with grid_steps: null, take "
            "the steps of features that are aligned already"
        )
    if grid == WORDS and TEXT not in specs:
        raise UsageError(
            f"grid: words needs the words, and text is not among the modalities ({', '.join(sorted(specs))}): add it, "
            "or give cells per second, such as grid: 5"
        )


def aligned_root() -> Path:
    """The folder of all tables on a grid."""
    return store_root() / "aligned"


def align_tables(corpus: Corpus, tables: Mapping[str, FeatureTable], grid: Grid) -> dict[str, FeatureTable]:
    """The features of a corpus on a grid; pooled first where that was not done yet.

    Args:
        corpus: the clips.
        tables: of the feature store, in the order of the clips; all modalities that decide where the grid ends.
        grid: see `clip_cells`.

    Raises:
        ValueError: a table that lies in no folder.
    """
    from filelock import FileLock

    place = aligned_root() / _key(corpus, tables, grid)
    found = _open(place, tables)
    if found is None:
        aligned_root().mkdir(parents=True, exist_ok=True)
        with FileLock(lock_path(place)):
            found = _open(place, tables)
            if found is None:
                _make(place, corpus, tables, grid)
                found = {key: open_table(place / key) for key in tables}
    return found


def _key(corpus: Corpus, tables: Mapping[str, FeatureTable], grid: Grid) -> str:
    decided = [DEFINITION, grid, sorted(source_of(table) for table in tables.values())]
    clips = [[clip.id, clip.start_seconds] for clip in corpus.clips]
    return hashlib.sha256(json.dumps([decided, clips]).encode()).hexdigest()[:16]


def source_of(table: FeatureTable) -> str:
    """The folder of a table of the store, from the store's own.

    Raises:
        ValueError: it lies in no folder.
    """
    if table.folder is None:
        raise ValueError("only tables of the feature store can be put on a grid")
    return f"{table.folder.parent.name}/{table.folder.name}"


def lacks_sources(description: Mapping[str, Any], gone: Collection[Path] = ()) -> bool:
    """Whether features that a table on a grid was made of are not there any more.

    Args:
        description: what its `store.json` says.
        gone: tables that are about to be deleted.
    """
    places = [store_root() / source for source in description["sources"]]
    return any(place in gone or not place.is_dir() for place in places)


def _open(place: Path, tables: Mapping[str, FeatureTable]) -> dict[str, FeatureTable] | None:
    try:
        return {key: open_table(place / key) for key in tables}
    except DamagedTableError:
        return None


def _make(place: Path, corpus: Corpus, tables: Mapping[str, FeatureTable], grid: Grid) -> None:
    sources = sorted(source_of(table) for table in tables.values())
    told = "words" if grid == WORDS else f"{grid:g} cells per second"
    with ExitStack() as stack:
        writers: dict[str, TableWriter] = {}
        for key, table in tables.items():
            dtype = check_dtype(table.values.dtype.name)
            about = {"corpus": corpus.name, "grid": grid, "sources": sources}
            writers[key] = stack.enter_context(table_writer(place / key, table.spec, table.names, dtype, **about))
        clips = track(
            range(len(corpus.clips)), f"Putting {', '.join(tables)} of {corpus.name} on {told}", len(corpus.clips)
        )
        for position in clips:
            _add(position, corpus, tables, writers, grid)


def _add(
    position: int, corpus: Corpus, tables: Mapping[str, FeatureTable], writers: Mapping[str, TableWriter], grid: Grid
) -> None:
    clip = corpus.clips[position]
    found = on_grid({key: table.sequence(position) for key, table in tables.items()}, grid, clip.start_seconds)
    for key, table in tables.items():
        present, names, notes = found.present[key], table.names, table.notes.get(clip.id, ())
        if present.any():
            sequence = FeatureSequence(found.values[key], found.times, names)
            writers[key].add(clip.id, sequence, None, present, notes)
        else:
            reason = table.missing.get(clip.id, nothing_overlaps(grid))
            writers[key].add(clip.id, FeatureSequence.empty(names), reason, present[:0], notes)


def nothing_overlaps(grid: Grid) -> str:
    """Why a modality is missing that has steps, but none in any cell."""
    return "nothing of it overlaps a word" if grid == WORDS else "nothing of it lies in the clip"
