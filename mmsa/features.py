"""The feature store: extracted sequences of a corpus on disk, memory-mapped, keyed by extractor fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from mmsa.corpora.clip import Clip, Corpus
from mmsa.errors import UsageError
from mmsa.paths import cache_dir
from mmsa.progress import track

if TYPE_CHECKING:
    from extractors.base import Extractor

FORMAT = 1
ABANDONED_SECONDS = 24 * 3600


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """All clips' sequences of one modality, one after the other.

    Attributes:
        spec: the extractor that made them.
        names: `D` feature names.
        values: `(sum of T, D)` float32, memory-mapped.
        times: `(sum of T, 2)` float64 seconds, memory-mapped.
        offsets: `(N + 1,)` int64: clip `i` owns rows `offsets[i]` to `offsets[i + 1]`.
        missing: why a clip has no steps, by clip id.
    """

    spec: ExtractorSpec
    names: tuple[str, ...]
    values: NDArray[np.float32]
    times: NDArray[np.float64]
    offsets: NDArray[np.int64]
    missing: Mapping[str, str]

    def sequence(self, clip: int) -> FeatureSequence:
        """The sequence of one clip, by its position in the corpus."""
        rows = slice(self.offsets[clip], self.offsets[clip + 1])
        return FeatureSequence(np.asarray(self.values[rows]), np.asarray(self.times[rows]), self.names)


def load_features(
    corpus: Corpus, extractors: Mapping[str, Extractor], *, jobs: int | None = None
) -> dict[str, FeatureTable]:
    """Open the features of a corpus, extracting first what is not there.

    Args:
        corpus: the clips.
        extractors: one per modality.
        jobs: processes; None is one per core.

    Raises:
        UsageError: no clip of the corpus has a modality at all.
    """
    folders = {key: store_folder(corpus, ex.spec) for key, ex in extractors.items()}
    todo = {key: extractors[key] for key, folder in folders.items() if not (folder / "store.json").is_file()}
    if todo:
        _fill(corpus, todo, {key: folders[key] for key in todo}, jobs)
    tables = {key: open_table(folder) for key, folder in folders.items()}
    for key, table in tables.items():
        if table.offsets[-1] == 0:
            reason = next(iter(table.missing.values()), "unknown")
            raise UsageError(
                f"no clip of {corpus.name} has {key} (the first: {reason}): "
                f"choose others with --modalities, or give the folder with the media"
            )
    return tables


def store_folder(corpus: Corpus, spec: ExtractorSpec) -> Path:
    """Where the features of a corpus and an extractor lie; changes when a clip, a file or a parameter does."""
    digest = hashlib.sha256()
    for clip in corpus.clips:
        digest.update(json.dumps(_identity(clip)).encode())
    return cache_dir() / "features" / f"{corpus.name}-{digest.hexdigest()[:16]}" / f"{spec.name}-{spec.fingerprint}"


def _identity(clip: Clip) -> list[Any]:
    """What decides a clip's features: its words, and which bytes of which file."""
    stat = clip.media.stat() if clip.media is not None and clip.media.exists() else None
    stamp = [str(clip.media), stat.st_size, stat.st_mtime_ns] if stat else None
    return [clip.id, clip.transcript, stamp, clip.start_seconds, clip.end_seconds]


def _fill(corpus: Corpus, extractors: Mapping[str, Extractor], folders: Mapping[str, Path], jobs: int | None) -> None:
    """Extract the given modalities in one pass over the clips; each table appears whole or not at all."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        opened = {key: table_writer(folders[key], ex.spec, ex.names) for key, ex in extractors.items()}
        writers = {key: stack.enter_context(writer) for key, writer in opened.items()}
        done = _results(corpus.clips, extractors, jobs)
        label = f"Extracting {', '.join(sorted(extractors))} of {corpus.name}"
        for clip, (sequences, missing) in track(zip(corpus.clips, done, strict=True), label, len(corpus.clips)):
            for key, writer in writers.items():
                writer.add(clip.id, sequences[key], missing.get(key))


Result = tuple[dict[str, FeatureSequence], dict[str, str]]


def _results(clips: Sequence[Clip], extractors: Mapping[str, Extractor], jobs: int | None) -> Iterator[Result]:
    import extractors as ex

    if all(clip.media is None for clip in clips):
        text = extractors.get("text")
        if isinstance(text, ex.TextExtractor) and len(extractors) == 1:
            for clip, sequence in zip(clips, ex.extract_texts(text, [c.transcript for c in clips]), strict=True):
                reason = "no words in the transcript" if (clip.transcript or "").strip() else "no transcript"
                yield {"text": sequence}, ({} if len(sequence) else {"text": reason})
            return
    workers = min(jobs or os.cpu_count() or 1, len(clips))
    if workers == 1:
        yield from (extract_clip(clip, extractors) for clip in clips)
        return
    yield from _parallel(clips, extractors, workers)


def _parallel(clips: Sequence[Clip], extractors: Mapping[str, Extractor], workers: int) -> Iterator[Result]:
    """Extract in processes, in order, with a bounded number of clips under way."""
    import multiprocessing
    from collections import deque
    from concurrent.futures import Future, ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    specs = {key: extractor.spec.to_dict() for key, extractor in extractors.items()}
    context = multiprocessing.get_context("spawn")  # a forked child would inherit FFmpeg's and torch's threads
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(specs,)) as pool:
        waiting: deque[tuple[Clip, Future[Result]]] = deque()
        try:
            for clip in clips:
                waiting.append((clip, pool.submit(_work, clip)))
                if len(waiting) >= 4 * workers:
                    yield waiting[0][1].result()
                    waiting.popleft()
            while waiting:
                yield waiting[0][1].result()
                waiting.popleft()
        except BrokenProcessPool:
            raise UsageError(
                f"a process that extracts features was killed at or soon after the clip {waiting[0][0].id!r}: out of "
                "memory (try --set jobs=1), or a crash in a library (`mmsa doctor` tries each)"
            ) from None


_worker_extractors: dict[str, Extractor] = {}


def _start_worker(specs: dict[str, dict[str, Any]]) -> None:
    import extractors as ex

    _worker_extractors.update({key: ex.rebuild(ExtractorSpec.from_dict(spec)) for key, spec in specs.items()})


def _work(clip: Clip) -> Result:
    return extract_clip(clip, _worker_extractors)


def extract_clip(clip: Clip, extractors: Mapping[str, Extractor]) -> Result:
    """Features of one clip and why a modality is missing; unreadable media counts as missing, not as a failure."""
    import extractors as ex

    def extract(media: Path | None) -> Result:
        found = ex.extract(
            media,
            extractors,
            transcript=clip.transcript,
            start_seconds=clip.start_seconds if media else None,
            end_seconds=clip.end_seconds if media else None,
        )
        return found.sequences, dict(found.missing)

    try:
        return extract(clip.media)
    except ex.MediaError as error:
        sequences, missing = extract(None)
        return sequences, {key: str(error) if key != "text" else reason for key, reason in missing.items()}


class TableWriter:
    """Appends sequences to a table that is being written; `table_writer` makes one."""

    def __init__(self, folder: Path, spec: ExtractorSpec, names: tuple[str, ...]) -> None:
        self.folder = folder
        self.spec = spec
        self.names = names
        self.offsets = [0]
        self.missing: dict[str, str] = {}
        self.values = (folder / "values.raw").open("wb")
        self.times = (folder / "times.raw").open("wb")

    def add(self, clip_id: str, sequence: FeatureSequence, missing: str | None) -> None:
        """The next clip's sequence, and why it has no steps where it has none."""
        self.values.write(np.ascontiguousarray(sequence.values).tobytes())
        self.times.write(np.ascontiguousarray(sequence.times).tobytes())
        self.offsets.append(self.offsets[-1] + len(sequence))
        if missing is not None:
            self.missing[clip_id] = missing

    def close(self) -> None:
        """Write what describes the table; without it the folder is none."""
        for file in (self.values, self.times):
            file.flush()
            os.fsync(file.fileno())
            file.close()
        np.save(self.folder / "offsets.npy", np.asarray(self.offsets, np.int64))
        meta = {
            "format": FORMAT,
            "spec": self.spec.to_dict(),
            "names": list(self.names),
            "missing": self.missing,
        }
        (self.folder / "store.json").write_text(json.dumps(meta), encoding="utf-8")


@contextmanager
def table_writer(folder: Path, spec: ExtractorSpec, names: tuple[str, ...]) -> Iterator[TableWriter]:
    """Write beside the final place and move there at the end, so that half a store never reads as a whole one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}-*"):  # of extractions that were killed, unless one still runs
        if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    writer = TableWriter(partial, spec, names)
    try:
        yield writer
        writer.close()
        if folder.is_dir():  # another process was faster, or an older one was interrupted before its store.json
            shutil.rmtree(folder)
        partial.replace(folder)
    finally:
        writer.values.close()
        writer.times.close()
        shutil.rmtree(partial, ignore_errors=True)


def open_table(folder: Path) -> FeatureTable:
    """Open a finished table; values and times stay on the disk until they are read.

    Raises:
        UsageError: it was written by another version of mmsa.
    """
    meta = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    if meta["format"] != FORMAT:
        raise UsageError(f"{folder} was written by another version of mmsa: delete it, it will be made again")
    offsets = np.load(folder / "offsets.npy", allow_pickle=False)
    steps, names = int(offsets[-1]), tuple(meta["names"])
    return FeatureTable(
        spec=ExtractorSpec.from_dict(meta["spec"]),
        names=names,
        values=_map(folder / "values.raw", np.float32, (steps, len(names))),
        times=_map(folder / "times.raw", np.float64, (steps, 2)),
        offsets=offsets,
        missing=meta["missing"],
    )


def _map(path: Path, dtype: type[np.generic], shape: tuple[int, int]) -> NDArray[Any]:
    if 0 in shape:  # an empty file cannot be mapped
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", shape=shape)


def summarise_missing(tables: Mapping[str, FeatureTable]) -> Iterable[str]:
    """One sentence per modality that some clips lack, with the most frequent reason."""
    from collections import Counter

    for key, table in tables.items():
        if table.missing:
            reason, count = Counter(table.missing.values()).most_common(1)[0]
            yield f"{len(table.missing)} of {len(table.offsets) - 1} clips lack {key} ({count} × {reason})"
