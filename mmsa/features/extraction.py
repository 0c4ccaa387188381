"""Extracting clips: one by one, in processes, or texts in batches; always in the order they are given."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from extractors.cores import usable_cores
from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from mmsa.corpora.clip import Clip
from mmsa.errors import UsageError
from mmsa.features.identity import reads_words

if TYPE_CHECKING:
    from extractors.base import Extractor, TextExtractor

Job = tuple[Clip, tuple[str, ...]]
"""A clip and the modalities to extract of it."""


class ClipFeatures(NamedTuple):
    """What was extracted from one clip, by modality.

    Attributes:
        sequences: one for each that was asked for.
        missing: why it has no steps.
        notes: what the user should know of it, where there is something; it depends on nothing else that was extracted.
    """

    sequences: dict[str, FeatureSequence]
    missing: dict[str, str]
    notes: dict[str, tuple[str, ...]]


T = TypeVar("T")
R = TypeVar("R")

NO_SPEECH = "no speech was recognised"
BATCH = 1024
"""Texts that are given to an extractor at once."""


def extract_clip(clip: Clip, extractors: Mapping[str, Extractor], device: str = "auto") -> ClipFeatures:
    """Features of one clip and why a modality is missing; unreadable media counts as missing, not as a failure.

    Reasons and notes name the media file without its folder: they are kept with features that do not depend on it.

    Args:
        clip: of a corpus.
        extractors: by modality.
        device: where frames are decoded; see `extractors.extract`.

    Warns:
        UserWarning: frames were decoded on the CPU where a GPU was to do it; Python shows each reason once.
    """
    import extractors as ex

    def named(told: str) -> str:
        for file in clip.files:
            told = told.replace(str(file), file.name)
        return told

    def extract(media: Path | tuple[Path, ...] | None) -> ClipFeatures:
        found = ex.extract(
            media,
            extractors,
            transcript=clip.transcript if clip.timed is None else clip.timed,
            start_seconds=clip.start_seconds if media else None,
            end_seconds=clip.end_seconds if media else None,
            device=device,
        )
        if found.fallback:
            warnings.warn(f"frames were decoded on the CPU: {found.fallback}", stacklevel=2)
        unheard = clip.timed is not None and not clip.timed
        reasons = {
            key: NO_SPEECH if unheard and reads_words(extractors[key]) else why for key, why in found.missing.items()
        }
        notes = {key: tuple(map(named, own)) for key, own in found.notes_by_modality.items()}
        return ClipFeatures(found.sequences, reasons, notes)

    try:
        return extract(clip.files if clip.more_media else clip.media)
    except ex.MediaError as error:
        told, (sequences, missing, _) = named(str(error)), extract(None)
        missing = {key: told if key != "text" else reason for key, reason in missing.items()}
        return ClipFeatures(sequences, missing, {})


def extract_jobs(
    jobs: Sequence[Job],
    extractors: Mapping[str, Extractor],
    processes: int | None = None,
    earlier: Sequence[Clip] = (),
    device: str = "auto",
) -> Iterator[ClipFeatures]:
    """Extract what each job asks for, in order.

    Args:
        jobs: clips with the modalities to extract of each.
        extractors: by modality.
        processes: None is one per core.
        earlier: the clips that came before these and need no extraction any more. Where texts are read in batches, the
            batches are those that there would be with them, as the numbers of some encoders depend in the last digit
            on what else is in a batch.
        device: where frames are decoded and, in processes, where extractors compute that can be put somewhere.

    Raises:
        UsageError: a process was killed.
    """
    import extractors as ex

    text = extractors.get("text")
    if isinstance(text, ex.TextExtractor) and all(keys == ("text",) and clip.media is None for clip, keys in jobs):
        yield from _batches([clip for clip, _ in jobs], text, earlier)
        return
    workers = min(processes or usable_cores(), len(jobs))
    if workers <= 1:
        yield from (_extract_job(job, extractors, device) for job in jobs)
        return
    named = [(f"the clip {clip.id!r}", (clip, keys)) for clip, keys in jobs]
    yield from in_processes(partial(_extract_job, device=device), named, extractors, workers, device)


def _extract_job(job: Job, extractors: Mapping[str, Extractor], device: str) -> ClipFeatures:
    clip, keys = job
    return extract_clip(clip, {key: extractors[key] for key in keys}, device)


def _batches(clips: Sequence[Clip], text: TextExtractor, earlier: Sequence[Clip]) -> Iterator[ClipFeatures]:
    import extractors as ex

    again = list(earlier)[len(earlier) // BATCH * BATCH :]
    order = [*again, *clips]
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        if start + len(batch) <= len(again):
            continue
        sequences = ex.extract_texts(text, [clip.transcript for clip in batch])
        for position, (clip, sequence) in enumerate(zip(batch, sequences, strict=True), start):
            if position >= len(again):
                reason = "no words in the transcript" if (clip.transcript or "").strip() else "no transcript"
                yield ClipFeatures({"text": sequence}, {} if len(sequence) else {"text": reason}, {})


def in_processes(
    function: Callable[[T, Mapping[str, Extractor]], R],
    jobs: Sequence[tuple[str, T]],
    extractors: Mapping[str, Extractor],
    workers: int,
    device: str = "auto",
) -> Iterator[R]:
    """Call a function for each job in processes, in order, with a bounded number under way.

    Where there is a process for each core, each stays on its own, so that libraries there start no more threads than it
    has and decoding and looking take place on one (`extractors/overlap.py`).

    Args:
        function: takes what a job is and the extractors; of a module, so that processes find it.
        jobs: a name for messages, and what the function takes.
        extractors: rebuilt from their specs in each process.
        workers: how many processes.
        device: where extractors compute that can be put somewhere.

    Raises:
        UsageError: a process was killed.
    """
    import multiprocessing
    from collections import deque
    from concurrent.futures import Future, ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    specs = {key: extractor.spec.to_dict() for key, extractor in extractors.items()}
    context = multiprocessing.get_context("spawn")  # a forked child would inherit FFmpeg's and torch's threads
    cores = own_cores(workers)
    initial = (specs, device, cores, context.Value("i", 0))
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=initial)
    waiting: deque[tuple[str, Future[R]]] = deque()
    try:
        for name, job in jobs:
            waiting.append((name, pool.submit(_work, function, job)))
            if len(waiting) >= 4 * workers:
                yield waiting[0][1].result()
                waiting.popleft()
        while waiting:
            yield waiting[0][1].result()
            waiting.popleft()
    except BrokenProcessPool:
        raise UsageError(
            f"a process that extracts features was killed at or soon after {waiting[0][0]}: out of memory (try fewer "
            "processes: --set jobs=1), or a crash in a library (`mmsa doctor` tries each). What was extracted is kept"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker_extractors: dict[str, Extractor] = {}


def own_cores(workers: int) -> list[int]:
    """The cores that this process may use, if there is a worker for each; else none, and workers move about."""
    if not hasattr(os, "sched_getaffinity"):  # Linux has it
        return []
    cores = sorted(os.sched_getaffinity(0))
    return cores if 1 < len(cores) <= workers else []


def _start_worker(specs: dict[str, dict[str, Any]], device: str, cores: Sequence[int], started: Any) -> None:
    import atexit
    import gc
    import signal
    import threading

    atexit.register(gc.freeze)  # see `mmsa.cli.main`: the parent waits for the end
    if cores:  # before any library counts them to make its threads
        with started.get_lock():
            os.sched_setaffinity(0, {cores[started.value % len(cores)]})
            started.value += 1

    import extractors as ex
    from extractors.registry import placement

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent stops its workers in order
    threading.Thread(target=_end_with_parent, daemon=True).start()
    found = {key: ExtractorSpec.from_dict(spec) for key, spec in specs.items()}
    _worker_extractors.update({key: ex.rebuild(spec, **placement(spec.name, device)) for key, spec in found.items()})


def _end_with_parent() -> None:
    """A parent that is killed cannot stop its workers, and they would wait for work for ever."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(function: Callable[[T, Mapping[str, Extractor]], R], job: T) -> R:
    return function(job, _worker_extractors)
