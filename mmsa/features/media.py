"""Which bytes a media file holds: its BLAKE2 digest, read once and remembered.

Features belong to content, not to a path: a corpus that is moved, copied to a node's own disk or unpacked again keeps
its features. A digest is remembered with the file's size and times in the cache, so that a later look costs one `stat`
a file. A file that was touched within the last two seconds is not remembered: file systems' clocks are coarse, and it
could change once more without its times showing it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mmsa.paths import cache_dir
from mmsa.progress import track

COARSE_SECONDS = 2.0
THREADS = 4
QUIET_BYTES = 100 * 2**20
KEPT_TOGETHER = 64


@dataclass(frozen=True)
class MediaIdentity:
    """What a media file is.

    Attributes:
        content: digest of its bytes, or in words why it has none ("absent").
        size: in bytes.
        modified_ns: when it was written, in nanoseconds.
        changed_ns: when anything about it changed; no user can set this one.
    """

    content: str
    size: int = 0
    modified_ns: int = 0
    changed_ns: int = 0

    def is_as_before(self, path: Path) -> bool:
        """Whether the file still has the size and time of writing that it had."""
        return (self.size, self.modified_ns) == _stamp(path)[:2]


def identify_media(paths: Iterable[Path]) -> dict[Path, MediaIdentity]:
    """The identity of each file; those that are not there or cannot be read have one as well.

    Args:
        paths: media files; a path that is given often is looked at once.
    """
    stamps = {path: _stamp(path) for path in dict.fromkeys(paths)}
    ledger = _Ledger(list(stamps))
    found: dict[Path, MediaIdentity] = {}
    unknown: list[Path] = []
    for path, stamp in stamps.items():
        content = ledger.look_up(path, stamp)
        if content is None:
            unknown.append(path)
        else:
            found[path] = MediaIdentity(content, *stamp)
    if unknown:
        with ledger:
            for path, content in zip(unknown, _read_all(unknown, stamps), strict=True):
                found[path] = MediaIdentity(content, *stamps[path])
                ledger.remember(path, found[path])
    return found


Stamp = tuple[int, int, int]


def _stamp(path: Path) -> Stamp:
    """Size, time of writing and time of change; zeros where there is no file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, for tens of thousands of files
    except OSError:
        return 0, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read_all(paths: Sequence[Path], stamps: Mapping[Path, Stamp]) -> Iterator[str]:
    with ThreadPoolExecutor(THREADS) as pool:
        contents = pool.map(_content, paths)
        try:
            if sum(stamps[path][0] for path in paths) > QUIET_BYTES:
                contents = track(contents, "Looking at media files", len(paths))
            yield from contents
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _content(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe could wait for ever
            return "not a file"
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except FileNotFoundError:
        return "absent"
    except OSError as error:
        return f"unreadable: {errno.errorcode.get(error.errno or 0, 'unknown')}"


class _Ledger:
    """Digests known by path, size and times: one file of JSON lines per folder that corpora lie in.

    Lines are only ever appended, whole, so that several processes may write at once; a line that cannot be read, as
    after a crash, is passed over. The last line about a path counts.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._names = {path: os.path.abspath(path) for path in paths}  # noqa: PTH100 - links stay as they are
        folders = {name.rpartition(os.sep)[0] or os.sep for name in self._names.values()}
        self._path = ledger_path(Path(os.path.commonpath(folders))) if folders else None
        self._known = _read_ledger(self._path) if self._path is not None else {}
        self._new: list[str] = []

    def look_up(self, path: Path, stamp: Stamp) -> str | None:
        known = self._known.get(self._names[path])
        return known[1] if known is not None and known[0] == stamp else None

    def remember(self, path: Path, found: MediaIdentity) -> None:
        if found.changed_ns == 0 or time.time() - found.changed_ns / 1e9 < COARSE_SECONDS:
            return
        line = [self._names[path], found.size, found.modified_ns, found.changed_ns, found.content]
        self._new.append(json.dumps(line))
        if len(self._new) >= KEPT_TOGETHER:
            self._write()

    def _write(self) -> None:
        """A store that may only be read can be used without: files are read again next time."""
        if self._new and self._path is not None:
            text = "".join(f"{line}\n" for line in self._new)
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("ab", buffering=0) as file:
                    file.write(text.encode())
            self._new.clear()

    def __enter__(self) -> _Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()


def ledger_folder() -> Path:
    """Where known digests are kept."""
    return cache_dir() / "features" / ".media"


def ledger_path(base: Path) -> Path:
    """The file with the known digests of media under a folder."""
    return ledger_folder() / f"{hashlib.sha256(os.fsencode(base)).hexdigest()[:16]}.jsonl"


def _read_ledger(path: Path) -> dict[str, tuple[Stamp, str]]:
    known: dict[str, tuple[Stamp, str]] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return known
    for line in lines:
        try:
            name, size, modified, changed, content = json.loads(line)
        except (ValueError, TypeError):
            continue
        known[name] = ((size, modified, changed), content)
    return known


def stale_ledgers() -> list[Path]:
    """Files of known digests none of whose media are there any more."""
    return [
        path
        for path in sorted(ledger_folder().glob("*.jsonl"))
        if not any(os.path.exists(name) for name in _read_ledger(path))  # noqa: PTH110 - ends at the first that is
    ]
