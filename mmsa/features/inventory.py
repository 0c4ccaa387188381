"""What the feature store holds, and which of it nothing can open any more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from extractors.spec import ExtractorSpec
from mmsa.corpora.clip import Corpus
from mmsa.errors import UsageError
from mmsa.features.aligned import aligned_root, lacks_sources
from mmsa.features.identity import clip_digests
from mmsa.features.media import ledger_folder, stale_ledgers
from mmsa.features.part import discard
from mmsa.features.rows import PART, part_rows, table_rows
from mmsa.features.store import group_folder, identify, locate, lock_path, store_root
from mmsa.features.table import ABANDONED_SECONDS, DTYPES, open_table, read_description
from mmsa.features.transcripts import known_forms
from mmsa.precomputed import is_precomputed

if TYPE_CHECKING:
    from extractors.base import Extractor

State = Literal["whole", "unfinished", "ready-made", "aligned", "unreadable"]


@dataclass(frozen=True)
class Entry:
    """A folder of the store.

    Attributes:
        folder: where.
        state: `"whole"`; `"unfinished"`, of an extraction that was stopped or is at work; `"ready-made"`, of features
            that no extractor made; `"aligned"`, all modalities on one grid; or `"unreadable"`, what this version of
            mmsa cannot open.
        corpus: which one it was made for; others with the same clips use it as well. "" where unknown.
        spec: what made it; None where unknown.
        dtype: how values are kept; "" where unknown.
        clips: how many it has.
        steps: of all clips; of those on a grid, in all modalities.
        missing: clips without steps.
        bytes: on the disk.
    """

    folder: Path
    state: State
    corpus: str
    spec: ExtractorSpec | None
    dtype: str
    clips: int
    steps: int
    missing: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        spec = None if self.spec is None else self.spec.to_dict()
        return {**vars(self), "folder": str(self.folder), "spec": spec}


@dataclass(frozen=True)
class Stale:
    """A folder or file of the store that is of no use any more.

    Attributes:
        path: what.
        reason: why.
        bytes: on the disk.
    """

    path: Path
    reason: str
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "path": str(self.path)}


def folder_bytes(folder: Path) -> int:
    """What the files of a folder hold."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def list_store() -> list[Entry]:
    """Every table of the store, finished or not."""
    root = store_root()
    groups = [group for group in sorted(root.iterdir()) if group.is_dir()] if root.is_dir() else []
    kept = [group for group in groups if group not in (ledger_folder(), aligned_root())]
    folders = (f for group in kept for f in sorted(group.iterdir()) if f.is_dir())
    tables = [_entry(folder) for folder in folders if not _is_being_written(folder)]
    return [*tables, *(_aligned_entry(folder) for folder in sorted(aligned_root().glob("*")) if folder.is_dir())]


def _is_being_written(folder: Path) -> bool:
    """Whether it is a temporary folder of `table_writer`, whose process may still be at work."""
    hidden = folder.name.startswith(".") and not folder.name.endswith(PART)
    return hidden and time.time() - folder.stat().st_mtime < ABANDONED_SECONDS


def _entry(folder: Path) -> Entry:
    size = folder_bytes(folder)
    if folder.name.endswith(PART):
        records = part_rows(folder, "float32", ()).records  # what the journal says; no value is read
        steps, missing = sum(r.steps for r in records), sum(r.reason is not None for r in records)
        dtype = folder.parent.name.rpartition("-")[2]
        return Entry(folder, "unfinished", "", None, dtype, len(records), steps, missing, size)
    try:
        meta, table = read_description(folder), open_table(folder)
    except (UsageError, ValueError, KeyError):
        return Entry(folder, "unreadable", "", None, "", 0, 0, 0, size)
    state: State = "ready-made" if is_precomputed(table.spec) else "whole"
    clips, steps = len(table.offsets) - 1, int(table.offsets[-1])
    dtype = table.values.dtype.name
    return Entry(folder, state, str(meta.get("corpus", "")), table.spec, dtype, clips, steps, len(table.missing), size)


def _aligned_entry(folder: Path) -> Entry:
    size = folder_bytes(folder)
    try:
        found = {place: (read_description(place), open_table(place)) for place in sorted(folder.glob("[!.]*"))}
        if not found or any("sources" not in about for about, _ in found.values()):
            raise UsageError("nothing, or not all of it, is there")
    except (UsageError, ValueError, KeyError):
        return Entry(folder, "unreadable", "", None, "", 0, 0, 0, size)
    tables = [table for _, table in found.values()]
    (about, first), *_ = found.values()
    steps, missing = sum(int(table.offsets[-1]) for table in tables), sum(len(table.missing) for table in tables)
    corpus, dtype = str(about.get("corpus", "")), first.values.dtype.name
    return Entry(folder, "aligned", corpus, None, dtype, len(first.offsets) - 1, steps, missing, size)


def find_stale(
    corpus: Corpus | None = None, extractors: Mapping[str, Extractor] | None = None, store_dtype: str = "float32"
) -> list[Stale]:
    """What can be deleted: nothing opens it any more, and no clip of a corpus would have to be extracted again for it.

    Always: folders of another layout, damaged ones, tables of built-in extractors whose versions here are others, those
    on a grid whose features are gone or go now, and what is remembered of media files that are gone.

    With a corpus: tables made for it that hold none of its clips any more, or that its own finished table has
    superseded; unfinished ones that it has superseded; arrays of it that have changed.

    Args:
        corpus: None looks only for what is stale whatever the corpora are.
        extractors: of that corpus, by modality.
        store_dtype: of its tables.
    """
    entries = list_store()
    found = {entry.folder: reason for entry in entries if (reason := _why_unreachable(entry))}
    if corpus is not None:
        found = {**_superseded(corpus, extractors or {}, store_dtype, entries), **found}
    for entry in entries:
        if entry.state == "aligned" and any(
            lacks_sources(read_description(f), found) for f in entry.folder.glob("[!.]*")
        ):
            found[entry.folder] = "on a grid, of features that are not there any more"
    sizes = {entry.folder: entry.bytes for entry in entries}
    stale = [Stale(folder, reason, sizes[folder]) for folder, reason in sorted(found.items())]
    gone = [(path, "remembers media files that are gone") for path in stale_ledgers()]
    return [*stale, *(Stale(path, reason, path.stat().st_size) for path, reason in gone)]


def _why_unreachable(entry: Entry) -> str | None:
    if entry.state == "unreadable":
        return "damaged, or written by another version of mmsa"
    if entry.spec is None or entry.state == "ready-made":
        return None
    if entry.folder.parent not in [group_folder(entry.spec, dtype) for dtype in DTYPES]:
        return "in a layout that this version of mmsa does not use"
    return _why_not_built(entry.spec)


def _why_not_built(spec: ExtractorSpec) -> str | None:
    """Only built-in extractors are tried: one of the user's may be at home in another environment."""
    import extractors as ex

    if spec.name not in ex.available():
        return None
    try:
        own = ex.build(spec.name, **{**spec.parameters, **spec.hints}).spec
    except (ValueError, TypeError, OSError, ImportError, ex.ToolError):
        return None
    if own.fingerprint == spec.fingerprint:
        return None
    return f"made with {spec.tool} {spec.version}, here is {own.tool} {own.version}"


def _superseded(
    corpus: Corpus, extractors: Mapping[str, Extractor], store_dtype: str, entries: list[Entry]
) -> dict[Path, str]:
    media = identify(corpus)
    forms = [*known_forms(corpus), corpus]
    alive = {digest for form in forms for words in (False, True) for digest in clip_digests(form.clips, words, media)}
    located = [own for form in forms for own in locate(form, extractors, store_dtype) if own.open() is not None]
    finished = {own.folder.parent: own for own in located}
    current = {own.folder for own in located}
    found: dict[Path, str] = {}
    for entry in entries:
        own, name = finished.get(entry.folder.parent), entry.folder.name
        if entry.state == "ready-made":
            if entry.folder.parent.name == f"{corpus.name}-arrays" and entry.folder not in corpus.features.values():
                found[entry.folder] = f"of arrays that {corpus.name} does not have any more"
        elif entry.state == "unfinished" and own is not None:
            if set(_digests(entry)) <= set(own.digests):
                found[entry.folder] = f"superseded by {own.folder.name}"
        elif entry.state == "whole" and entry.corpus == corpus.name and entry.folder not in current:
            if alive.isdisjoint(_digests(entry)):
                found[entry.folder] = f"holds no clip that {corpus.name} still has"
            elif own is not None:
                found[entry.folder] = f"{name} is superseded by {own.folder.name}"
    return found


def _digests(entry: Entry) -> list[bytes]:
    try:
        rows = part_rows(entry.folder, "float32", ()) if entry.state == "unfinished" else table_rows(entry.folder)
    except UsageError:
        return []
    return [record.digest for record in rows.records]


def delete(stale: Stale) -> bool:
    """Delete it, unless a process is at work on it.

    Returns:
        Whether it was deleted.
    """
    from filelock import FileLock, Timeout

    if not stale.path.is_dir():
        stale.path.unlink(missing_ok=True)
        return True
    name = stale.path.name.removesuffix(PART).removeprefix(".") if stale.path.name.endswith(PART) else stale.path.name
    try:
        with FileLock(lock_path(stale.path.with_name(name)), timeout=0):
            discard(stale.path)
    except Timeout:
        return False
    return True
