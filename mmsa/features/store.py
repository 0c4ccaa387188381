"""The feature store: each corpus's features on disk, one table per extractor, extracted once.

What is stored is keyed by what decides it: the folder of a table by the extractor's fingerprint, the values' type and
the clips in their order, a clip by what the extractor sees of it (`mmsa.features.identity`). A reader thus finds its
table by name and reads it as one contiguous block. A corpus with other clips, ten more say, has a table of its own; the
clips that another table of the same extractor has are copied from there, which costs disk but keeps readers simple and
every table independent of all others: any of them can be deleted at any time. `mmsa extract CORPUS --prune` deletes the
superseded ones.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mmsa.corpora.clip import Clip, Corpus
from mmsa.errors import UsageError
from mmsa.features.extraction import ClipFeatures, Job, extract_clip, extract_jobs
from mmsa.features.identity import clip_digests, reads_words, table_key
from mmsa.features.media import MediaIdentity, identify_media
from mmsa.features.part import Part
from mmsa.features.rows import Rows, Stored, find_rows
from mmsa.features.table import DamagedTableError, FeatureTable, StoreDtype, check_dtype, open_table
from mmsa.paths import cache_dir
from mmsa.progress import track

if TYPE_CHECKING:
    from extractors.base import Extractor
    from extractors.spec import ExtractorSpec


@dataclass(frozen=True)
class Filled:
    """What was done for one modality.

    Attributes:
        folder: the table.
        extracted: clips whose features were computed.
        copied: clips whose features were taken from other tables of the extractor, or from a clip of this table in
            which it sees the same.
        kept: clips that were in the table before; all of them where it was finished.
        seconds: how long the pass took; modalities that are extracted together share it. 0 where there was nothing to
            do.
    """

    folder: Path
    extracted: int
    copied: int
    kept: int
    seconds: float


@dataclass(frozen=True)
class Wanted:
    """A table that is asked for.

    Attributes:
        key: the modality.
        extractor: what fills it.
        dtype: how values are kept.
        digests: the clips, in order.
        folder: where it is or will be.
    """

    key: str
    extractor: Extractor
    dtype: StoreDtype
    digests: list[bytes]
    folder: Path

    def open(self) -> FeatureTable | None:
        """The table; None where it is not there or not whole."""
        try:
            return open_table(self.folder)
        except DamagedTableError:
            return None


def store_root() -> Path:
    """The folder of the store."""
    return cache_dir() / "features"


def group_folder(spec: ExtractorSpec, dtype: StoreDtype) -> Path:
    """The folder of all tables of an extractor."""
    return store_root() / f"{spec.name}-{spec.fingerprint}-{dtype}"


def store_folder(corpus: Corpus, extractor: Extractor, store_dtype: str = "float32") -> Path:
    """Where the features of a corpus and an extractor lie.

    It changes when a clip, a file's content or a parameter does, and with nothing else: not with the corpus's name, the
    splits or the labels.
    """
    (wanted,) = locate(corpus, {extractor.modality: extractor}, store_dtype)
    return wanted.folder


def locate(corpus: Corpus, extractors: Mapping[str, Extractor], store_dtype: str = "float32") -> list[Wanted]:
    """The tables that a corpus and extractors ask for, whether they are there or not."""
    return _locate(corpus, extractors, store_dtype, identify(corpus))


def identify(corpus: Corpus) -> dict[Path, MediaIdentity]:
    """The identity of every media file that a corpus names."""
    return identify_media(file for clip in corpus.clips for file in clip.files)


def _locate(
    corpus: Corpus, extractors: Mapping[str, Extractor], store_dtype: str, media: Mapping[Path, MediaIdentity]
) -> list[Wanted]:
    dtype = check_dtype(store_dtype)
    by_kind: dict[bool, list[bytes]] = {}  # audio and vision see the same of a clip
    wanted = []
    for key, extractor in sorted(extractors.items()):
        words = reads_words(extractor)
        if words not in by_kind:
            by_kind[words] = clip_digests(corpus.clips, words, media)
        folder = group_folder(extractor.spec, dtype) / table_key(by_kind[words])
        wanted.append(Wanted(key, extractor, dtype, by_kind[words], folder))
    return wanted


def load_features(
    corpus: Corpus,
    extractors: Mapping[str, Extractor],
    *,
    jobs: int | None = None,
    store_dtype: str = "float32",
    device: str = "auto",
) -> dict[str, FeatureTable]:
    """Open the features of a corpus, extracting first what is not there.

    Args:
        corpus: the clips.
        extractors: one per modality.
        jobs: processes; None is one per core.
        store_dtype: `"float32"`, or `"float16"` for half the disk and 11 significant bits; a table of its own. What is
            there in float32 is converted, not extracted again.
        device: where frames are decoded, and extractors compute that can be put somewhere: `"auto"`, `"cpu"` or
            `"cuda"`.

    Raises:
        UsageError: no clip of the corpus has a modality at all, a value is too large for float16, or a media file
            changed while it was read.
    """
    opened, _ = fill_store(corpus, extractors, jobs=jobs, store_dtype=store_dtype, device=device)
    for key, table in opened.items():
        if table.offsets[-1] == 0:
            reason = next(iter(table.missing.values()), "unknown")
            raise UsageError(
                f"no clip of {corpus.name} has {key} (the first: {reason}): "
                f"choose others with --modalities, or give the folder with the media"
            )
    return opened


def fill_store(
    corpus: Corpus,
    extractors: Mapping[str, Extractor],
    *,
    jobs: int | None = None,
    store_dtype: str = "float32",
    device: str = "auto",
) -> tuple[dict[str, FeatureTable], dict[str, Filled]]:
    """Like `load_features`, without minding modalities that no clip has; also says what was done."""
    media = identify(corpus)
    wanted = _locate(corpus, extractors, store_dtype, media)
    tables = {own.key: own.open() for own in wanted}
    done = {own.key: Filled(own.folder, 0, 0, len(corpus.clips), 0.0) for own in wanted}
    todo = [own for own in wanted if tables[own.key] is None]
    if todo:
        with _locked(todo, corpus.name):
            tables.update({own.key: own.open() for own in todo})  # another process may have made it by now
            done.update(_fill(corpus, [own for own in todo if tables[own.key] is None], media, jobs, device))
    opened = {own.key: _named(tables[own.key] or open_table(own.folder), corpus) for own in wanted}
    return {key: opened[key] for key in extractors}, {key: done[key] for key in extractors}


def _named(table: FeatureTable, corpus: Corpus) -> FeatureTable:
    """The table with the corpus's ids in place of positions."""
    missing = {corpus.clips[int(i)].id: reason for i, reason in table.missing.items()}
    return replace(table, missing=missing, notes={corpus.clips[int(i)].id: own for i, own in table.notes.items()})


@contextmanager
def _locked(wanted: Sequence[Wanted], corpus: str) -> Iterator[None]:
    """Hold each table's lock; always taken in one order, so that two processes never wait for each other."""
    from filelock import FileLock, Timeout

    with ExitStack() as stack:
        for own in sorted(wanted, key=lambda own: own.folder):
            own.folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(lock_path(own.folder))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                say(f"Another process extracts {own.key} of {corpus}: waiting for it …")
                lock.acquire()
            stack.callback(lock.release)
        yield


def lock_path(table: Path) -> Path:
    """The file that whoever makes or deletes a table holds a lock on; it stays when the lock is given back."""
    return table.parent / f".{table.name}.lock"


def say(text: str) -> None:
    """A line on standard error."""
    from rich.console import Console

    Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)


def _fill(
    corpus: Corpus, wanted: Sequence[Wanted], media: Mapping[Path, MediaIdentity], jobs: int | None, device: str
) -> dict[str, Filled]:
    """Make the given tables in one pass over the clips, going on where an earlier pass was stopped."""
    if not wanted:
        return {}
    start = time.perf_counter()
    with ExitStack() as stack:
        fillings = [_Filling(own, stack) for own in wanted]
        _run(corpus, fillings, media, jobs, device)
        seconds = time.perf_counter() - start
        for filling in fillings:
            filling.part.finish(corpus.name)
        return {filling.key: filling.report(seconds) for filling in fillings}


class _Filling:
    """One table being filled: what is there, and where each clip that is not comes from."""

    def __init__(self, wanted: Wanted, stack: ExitStack) -> None:
        self.key, self.extractor = wanted.key, wanted.extractor
        spec, names = wanted.extractor.spec, wanted.extractor.names
        self.part = Part(wanted.folder, spec, names, wanted.dtype, wanted.digests)
        stack.callback(self.part.close)
        groups = [(group_folder(spec, wanted.dtype), wanted.dtype)]
        if wanted.dtype == "float16":
            groups.append((group_folder(spec, "float32"), "float32"))
        found = find_rows(groups, names, wanted.digests, self.part.folder)
        self.sources: list[tuple[Rows, int] | None] = []
        first: dict[bytes, int] = {}
        for position, digest in enumerate(wanted.digests):
            own = (self.part.rows, first[digest]) if digest in first else None
            self.sources.append(found.get(digest, own))
            first.setdefault(digest, position)
        for rows, _ in found.values():
            stack.callback(rows.close)
        self.extracted = 0

    def must_extract(self, position: int) -> bool:
        return position >= len(self.part) and self.sources[position] is None

    def extracted_before(self, position: int) -> list[int]:
        """Positions before this one whose clips no other table has."""
        return [i for i in range(position) if self.sources[i] is None]

    def add(self, position: int, clip: Clip, result: ClipFeatures | None) -> None:
        """Append the clip at a position: what was extracted, or what another table has of it."""
        if position < len(self.part):
            return
        source = self.sources[position]
        found = None if source is None else source[0].read(source[1])
        if found is None:
            if result is None or self.key not in result.sequences:  # what was to be copied is damaged
                result = extract_clip(clip, {self.key: self.extractor})
            key = self.key
            found = Stored(result.sequences[key], result.missing.get(key), result.notes.get(key, ()))
            self.extracted += 1
        self.part.add(found, clip.id)

    def report(self, seconds: float) -> Filled:
        added = len(self.part) - self.part.kept
        return Filled(self.part.table, self.extracted, added - self.extracted, self.part.kept, seconds)


def _run(
    corpus: Corpus,
    fillings: Sequence[_Filling],
    media: Mapping[Path, MediaIdentity],
    processes: int | None,
    device: str,
) -> None:
    """Add every clip that is not there yet to every table."""
    clips, first = corpus.clips, min(len(filling.part) for filling in fillings)
    jobs: dict[int, Job] = {}
    for position in range(first, len(clips)):
        keys = tuple(filling.key for filling in fillings if filling.must_extract(position))
        if keys:
            jobs[position] = clips[position], keys
    earlier = [clips[i] for filling in fillings if filling.key == "text" for i in filling.extracted_before(first)]
    if first:
        say(f"Going on after {first} of {len(clips)} clips")
    verb = "Extracting" if jobs else "Copying"
    label = f"{verb} {', '.join(filling.key for filling in fillings)} of {corpus.name}"
    with ExitStack() as stack:  # workers and the bar end here, not when the collector finds them
        extractors = {filling.key: filling.extractor for filling in fillings}
        results = extract_jobs(list(jobs.values()), extractors, processes, earlier, device)
        positions = track(range(first, len(clips)), label, len(clips) - first)
        for iterator in (results, positions):
            stack.enter_context(closing(cast("Generator[object]", iterator)))
        for position in positions:
            clip = clips[position]
            result = next(results) if position in jobs else None
            changed = [file for file in clip.files if result is not None and not media[file].is_as_before(file)]
            if changed:
                raise UsageError(
                    f"{changed[0]} changed while its features were extracted: when nothing writes to it any more, run "
                    "again; what was extracted is kept"
                )
            for filling in fillings:
                filling.add(position, clip, result)
