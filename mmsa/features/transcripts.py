"""Transcripts of a corpus that came without, and times for those without times: made once per speech model, and kept.

What a model made lies in one file of JSON lines, `transcripts/<fingerprint>.jsonl` in the cache, a line per clip: the
clip's digest, a CRC-32 and the transcript. Lines are only ever appended, whole; one whose checksum does not hold, as
after a crash, is passed over and its clip listened to again. A clip is known by what is listened to: the content of its
file, where it starts and ends, and the text that is aligned. Corpora with the same clips share what was heard.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from extractors.transcript import Segment, TimedWord, Transcript
from mmsa.corpora.clip import Clip, Corpus
from mmsa.errors import UsageError
from mmsa.features.extraction import in_processes
from mmsa.features.identity import DIGEST_BYTES, reads_words
from mmsa.features.media import MediaIdentity, identify_media
from mmsa.features.store import say
from mmsa.paths import cache_dir
from mmsa.progress import track
from mmsa.words import WordOptions, WordSource, word_source

if TYPE_CHECKING:
    from extractors.base import Extractor


@dataclass(frozen=True)
class Heard:
    """What listening to a corpus gave.

    Attributes:
        recognised: clips without a transcript that were listened to.
        silent: those of them in which no speech was recognised.
        aligned: transcripts whose words got times.
        unaligned: those that could not be aligned.
        kept: of all of these, how many had been listened to before.
        failed: clips whose media could not be read, and why, by id.
    """

    recognised: int = 0
    silent: int = 0
    aligned: int = 0
    unaligned: int = 0
    kept: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)

    def told(self, source: WordSource) -> Iterator[str]:
        """What a reader of results must know, in sentences."""
        if self.recognised:
            silent = f", {self.silent} of them without speech" if self.silent else ""
            yield f"{self.recognised} clips had no transcript: recognised by {source.names['transcribe']}{silent}"
        if self.unaligned:
            whole = self.aligned + self.unaligned
            yield f"{self.unaligned} of {whole} transcripts could not be aligned by {source.names['align']}"
        if self.failed:
            clip, reason = next(iter(self.failed.items()))
            yield f"{len(self.failed)} clips could not be listened to (the first, {clip}: {reason})"


@dataclass(frozen=True)
class _Task:
    """One clip to listen to; it travels to worker processes."""

    clip: Clip
    options: WordOptions
    kind: str


_Made = tuple[Transcript | None, str | None]
"""A transcript, or why the media cannot be read."""


def hear(corpus: Corpus, source: WordSource, *, jobs: int | None = None) -> tuple[Corpus, Heard]:
    """Recognise what is said in clips without a transcript, and align transcripts, as far as `source` does either.

    Args:
        corpus: the clips; given transcripts are never replaced.
        source: the speech models.
        jobs: processes, each with its own copy of the models; None is one, as a model may be large.

    Returns:
        The corpus in which such clips have `timed` transcripts, and what was done.

    Raises:
        UsageError: a model cannot be had, or a media file changed while it was listened to.
    """
    wanted = {place: kind for place, clip in enumerate(corpus.clips) if (kind := _kind(clip, source)) is not None}
    media = identify_media(file for place in wanted for file in corpus.clips[place].files)
    found: dict[int, Transcript] = {}
    failed: dict[str, str] = {}
    kept = 0
    for kind in sorted(set(wanted.values())):
        keys = {place: _key(corpus.clips[place], media) for place, own in wanted.items() if own == kind}
        ledger = _Ledger(source.specs[kind].fingerprint)
        known = ledger.read(set(keys.values()))
        before = set(known)
        if before < set(keys.values()):
            with ledger.locked(corpus.name):
                known = ledger.read(set(keys.values()))  # another process may have listened by now
                before = set(known)
                todo = {key: place for place, key in keys.items() if key not in known}
                tasks = [_Task(corpus.clips[place], source.options, kind) for place in todo.values()]
                failed |= _fill(ledger, known, list(todo), _listen_all(tasks, corpus, media, jobs), tasks)
        kept += sum(key in before for key in keys.values())
        found.update({place: known[key] for place, key in keys.items() if key in known})
    clips = [_with(clip, wanted.get(place), found.get(place)) for place, clip in enumerate(corpus.clips)]
    counts = Counter((wanted[place], _is_timed(made)) for place, made in found.items())
    heard = Heard(
        recognised=counts["transcribe", True] + counts["transcribe", False],
        silent=counts["transcribe", False],
        aligned=counts["align", True],
        unaligned=counts["align", False],
        kept=kept,
        failed=failed,
    )
    return replace(corpus, clips=tuple(clips)), heard


def _fill(
    ledger: _Ledger,
    known: dict[str, Transcript],
    keys: Sequence[str],
    results: Generator[_Made, None, None],
    tasks: Sequence[_Task],
) -> dict[str, str]:
    """Keep each result as soon as it is there; why clips could not be listened to, by id."""
    failed: dict[str, str] = {}
    with closing(results):  # worker processes end here, not when the collector finds them
        for key, task, (made, reason) in zip(keys, tasks, results, strict=True):
            if made is None:
                failed[task.clip.id] = str(reason)
            else:
                known[key] = made
                ledger.append(key, made)
    return failed


def hear_words(
    corpus: Corpus, options: WordOptions, extractors: Mapping[str, Extractor], *, jobs: int | None = None
) -> tuple[Corpus, Heard | None, WordSource | None]:
    """Listen to a corpus if that is asked for and an extractor reads what is heard; see `hear`."""
    if not options.listens or not any(map(reads_words, extractors.values())):
        return corpus, None, None
    source = word_source(options)
    corpus, heard = hear(corpus, source, jobs=jobs)
    return corpus, heard, source


def known_forms(corpus: Corpus) -> Iterator[Corpus]:
    """The corpus as each speech model has heard it so far; nothing is listened to."""
    sounding = {place: clip for place, clip in enumerate(corpus.clips) if _sounds(clip)}
    media = identify_media(file for clip in sounding.values() for file in clip.files)
    keys = {place: _key(clip, media) for place, clip in sounding.items()}
    for path in sorted(transcripts_root().glob("[!.]*.jsonl")):
        known = _Ledger(path.stem).read(set(keys.values()))
        if known:
            clips = list(corpus.clips)
            for place, key in keys.items():
                kind = "align" if (clips[place].transcript or "").strip() else "transcribe"
                clips[place] = _with(clips[place], kind, known.get(key))
            yield replace(corpus, clips=tuple(clips))


def may_be_heard(corpus: Corpus) -> bool:
    """Whether a clip has sound that could be listened to."""
    return any(_sounds(clip) for clip in corpus.clips)


def _sounds(clip: Clip) -> bool:
    return clip.may_sound and not clip.more_media


def _kind(clip: Clip, source: WordSource) -> str | None:
    """What is done for a clip."""
    kind = "align" if (clip.transcript or "").strip() else "transcribe"
    return kind if _sounds(clip) and kind in source.specs and clip.timed is None else None


def _is_timed(transcript: Transcript) -> bool:
    return any(segment.start_seconds is not None for segment in transcript.segments)


def _with(clip: Clip, kind: str | None, found: Transcript | None) -> Clip:
    if found is None or (kind == "align" and not _is_timed(found)):
        return clip
    given = clip.transcript if kind == "align" else found.text or None
    return replace(clip, transcript=given, timed=found)


def _key(clip: Clip, media: Mapping[Path, MediaIdentity]) -> str:
    assert clip.media is not None
    said = (clip.transcript or "").strip() or None
    seen = [media[clip.media].content, clip.media.suffix.lower(), clip.start_seconds, clip.end_seconds, said]
    return hashlib.blake2b(json.dumps(seen).encode(), digest_size=DIGEST_BYTES).hexdigest()


def _listen_all(
    tasks: Sequence[_Task], corpus: Corpus, media: Mapping[Path, MediaIdentity], jobs: int | None
) -> Generator[_Made, None, None]:
    """Listen to clips, in order."""
    if not tasks:
        return
    workers = min(jobs or 1, len(tasks))
    named = [(f"the clip {task.clip.id!r}", task) for task in tasks]
    alone = (_listen(task, {}) for task in tasks)
    results = in_processes(_listen, named, {}, workers) if workers > 1 else alone
    verb = {"transcribe": "Listening to", "align": "Aligning words of"}[tasks[0].kind]
    with ExitStack() as stack:
        watched = track(results, f"{verb} {corpus.name}", len(tasks))
        for iterator in (results, watched):
            stack.enter_context(closing(cast("Generator[object, None, None]", iterator)))
        for task, made in zip(tasks, watched, strict=True):
            changed = [file for file in task.clip.files if not media[file].is_as_before(file)]
            if changed:
                raise UsageError(
                    f"{changed[0]} changed while it was listened to: when nothing writes to it any more, run again; "
                    "what was heard of others is kept"
                )
            yield made


def _listen(task: _Task, extractors: Mapping[str, Extractor]) -> _Made:
    from extractors import MediaError

    del extractors
    clip = task.clip
    assert clip.media is not None
    try:
        given, span = Transcript.of(clip.transcript), (clip.start_seconds, clip.end_seconds)
        return word_source(task.options).find(clip.media, given, span)[0], None
    except MediaError as error:
        return None, str(error).replace(str(clip.media), clip.media.name)


class _Ledger:
    """What one model made, by clip; one process at a time listens and adds to it."""

    def __init__(self, fingerprint: str) -> None:
        self.path = transcripts_root() / f"{fingerprint}.jsonl"

    @contextmanager
    def locked(self, corpus: str) -> Iterator[None]:
        """Hold its lock, so that two processes do not listen to the same clips."""
        from filelock import FileLock, Timeout

        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"Another process listens with the same model: waiting for it, to go on with {corpus} …")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def read(self, keys: set[str]) -> dict[str, Transcript]:
        """The transcripts of these clips; the last sound line about each counts."""
        found: dict[str, Transcript] = {}
        if not self.path.is_file():
            return found
        with self.path.open("rb") as file:
            for line in file:
                key, _, rest = line.decode("utf-8", "replace").rstrip("\n").partition(" ")
                if key in keys and (made := _parse(key, rest)) is not None:
                    found[key] = made
        return found

    def append(self, key: str, transcript: Transcript) -> None:
        """Add a line; on its own line also where a process died in the middle of one."""
        content = json.dumps(asdict(transcript), ensure_ascii=False, separators=(",", ":"))
        line = f"{key} {_checksum(key, content)} {content}\n".encode()
        with self.path.open("ab", buffering=0) as file:
            if file.tell() and not self._ends_whole():
                line = b"\n" + line
            file.write(line)
            os.fsync(file.fileno())

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def _parse(key: str, rest: str) -> Transcript | None:
    """The transcript of a line; None where the line is not what was written."""
    checksum, _, content = rest.partition(" ")
    if checksum != _checksum(key, content):
        return None
    data = json.loads(content)
    segments = (
        Segment(**{**own, "words": tuple(TimedWord(**word) for word in own["words"])}) for own in data["segments"]
    )
    return Transcript(tuple(segments), data["language"])


def _checksum(key: str, content: str) -> str:
    return f"{zlib.crc32(f'{key} {content}'.encode()):08x}"


def transcripts_root() -> Path:
    """The folder of all that speech models made."""
    return cache_dir() / "transcripts"
