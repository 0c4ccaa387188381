"""All clips of the corpus on disk: rendered once, in parallel, resumable.

The folder's name carries the seed and a fingerprint of this package's source, so a change to the renderer never meets
old files. A clip appears under its name only when it is complete; the manifest is written last. Two processes that
render at once write the same bytes to the same names, so neither harms the other.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import IO

from extractors.cores import usable_cores
from mmsa.demo.script import ClipScript

_STALE_SECONDS = 3600.0
_INLINE_CLIPS = 4
_MOST_WORKERS = 16


def source_fingerprint() -> str:
    """Twelve hex digits over the source of the demo package."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def clip_folder(root: Path, seed: int) -> Path:
    """Where the clips of a seed are kept."""
    return root / f"demo-{source_fingerprint()}-seed{seed}"


def clip_path(folder: Path, clip: ClipScript) -> Path:
    """A clip's file."""
    return folder / f"{clip.id}.mp4"


def _manifest_path(folder: Path, n_clips: int) -> Path:
    return folder / f"manifest-{n_clips}.json"


def _missing(folder: Path, clips: Sequence[ClipScript]) -> list[ClipScript]:
    """Clips without a file, with an empty one, or with one whose size is not the manifest's."""
    manifest = _manifest_path(folder, len(clips))
    sizes: dict[str, int] = json.loads(manifest.read_text()) if manifest.exists() else {}

    def ready(clip: ClipScript) -> bool:
        path = clip_path(folder, clip)
        size = path.stat().st_size if path.exists() else 0
        return size > 0 and size == sizes.get(clip.id, size)

    return [clip for clip in clips if not ready(clip)]


def _write_manifest(folder: Path, clips: Sequence[ClipScript]) -> None:
    sizes = {clip.id: clip_path(folder, clip).stat().st_size for clip in clips}
    partial = folder / f".manifest.{uuid.uuid4().hex}.part"
    partial.write_text(json.dumps(sizes, indent=1))
    partial.replace(_manifest_path(folder, len(clips)))


def _remove_stale(folder: Path) -> None:
    """Delete what interrupted renderings left; younger partial files may belong to one that is at work."""
    for partial in folder.glob(".*.part"):
        try:
            if time.time() - partial.stat().st_mtime > _STALE_SECONDS:
                partial.unlink()
        except FileNotFoundError:  # another process was quicker
            continue


def _render_inline(folder: Path, todo: Sequence[ClipScript], seed: int) -> Iterator[str]:
    from mmsa.demo.render import render_clip

    for clip in todo:
        render_clip(clip_path(folder, clip), clip, seed)
        yield clip.id


def _start_worker(job: Mapping[str, object], log: IO[str]) -> subprocess.Popen[str]:
    package_root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH", "")]))
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    process = subprocess.Popen(
        [sys.executable, "-m", "mmsa.demo.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={**os.environ, **one_thread, "PYTHONPATH": path},
    )
    if process.stdin is not None:
        process.stdin.write(json.dumps(job))
        process.stdin.close()
    return process


def _follow(process: subprocess.Popen[str], finished: Queue[str | None]) -> None:
    """Hand on each clip a worker reports, then None."""
    for line in process.stdout or ():
        finished.put(line.strip())
    process.wait()
    finished.put(None)


def _merge(processes: Sequence[subprocess.Popen[str]]) -> Iterator[str]:
    """What all workers report, as it comes, until all have ended."""
    finished: Queue[str | None] = Queue()
    for process in processes:
        Thread(target=_follow, args=(process, finished), daemon=True).start()
    running = len(processes)
    while running:
        clip_id = finished.get()
        if clip_id is None:
            running -= 1
        else:
            yield clip_id


def _render_parallel(todo: Sequence[ClipScript], job: Mapping[str, object], workers: int) -> Iterator[str]:
    """Contiguous shares, because a worker paints a speaker's still parts once for neighbouring clips."""
    bounds = [round(len(todo) * k / workers) for k in range(workers + 1)]
    processes: list[subprocess.Popen[str]] = []
    with tempfile.TemporaryFile("w+") as log:
        try:
            for start, stop in pairwise(bounds):
                ids = [clip.id for clip in todo[start:stop]]
                processes.append(_start_worker({**job, "ids": ids}, log))
            yield from _merge(processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        if any(process.returncode for process in processes):
            log.seek(0)
            raise RuntimeError(f"rendering the demo corpus into {job['folder']} failed:\n{log.read()[-2000:]}")


def render_missing(
    folder: Path, clips: Sequence[ClipScript], *, seed: int, clips_per_speaker: int | None, workers: int | None = None
) -> tuple[int, Iterator[str]]:
    """How many clips are missing in `folder`, and an iterator that renders them.

    Args:
        folder: made if need be.
        clips: the whole script.
        seed: the script's.
        clips_per_speaker: the script's.
        workers: processes; None is one per core this process may use, at most 16; few clips are rendered in this
            process.

    Returns:
        The number and the iterator, which yields each clip's id when its file is there, raises `RuntimeError` with
        what a failing process said, and writes the manifest at its end. Abandoning it stops the processes; what is
        rendered by then is kept and not rendered again.
    """
    todo = _missing(folder, clips)
    cores = min(usable_cores(), _MOST_WORKERS) if workers is None else workers
    few = len(todo) <= _INLINE_CLIPS or cores == 1

    def render() -> Iterator[str]:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        if few:
            yield from _render_inline(folder, todo, seed)
        else:
            job = {"seed": seed, "clips_per_speaker": clips_per_speaker, "folder": str(folder)}
            yield from _render_parallel(todo, job, min(cores, len(todo)))
        _write_manifest(folder, clips)

    if todo or not _manifest_path(folder, len(clips)).exists():
        return len(todo), render()
    return 0, iter(())
