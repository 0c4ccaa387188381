"""Media at an address: fetched through fsspec into a temporary file of bounded size."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmsa.errors import UsageError

STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory")
"""Protocols of object stores that the user holds credentials for; others need leave, as anybody may answer there."""

MAX_MEGABYTES = 4096
"""Largest file that is fetched where no other limit is set."""

BLOCK = 2**20
_SIDECAR_BYTES = 16 * 2**20


def is_address(path: str) -> bool:
    """Whether something is an address, such as `s3://bucket/talk.mp4`, and no local path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*(::[^/]*)?://", path) is not None


def check_address(address: str, *, allow_remote: bool) -> None:
    """Refuse addresses that are not allowed.

    Raises:
        UsageError: a chain of protocols, a local file as an address, or the open network without leave.
    """
    protocol = re.split(r"::|://", address)[0].lower()
    if "::" in address:
        raise UsageError(f"{address}: chained protocols are not taken; give the file's own address")
    if protocol in ("file", "local"):
        raise UsageError(f"{address}: give a local file by its path, {address.partition('://')[2]}")
    if protocol not in STORES and not allow_remote:
        raise UsageError(
            f"{address}: {protocol} reaches into the open network, which needs --allow-remote; without it, paths and "
            f"addresses of {', '.join(STORES)} are taken"
        )


def list_folder(pattern: str) -> list[str]:
    """The files at an address with `*` or `**` in it."""
    system, path = _system(pattern)
    protocol = pattern.partition("://")[0]
    try:
        found = system.glob(path, detail=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"{pattern} cannot be listed: {error}") from None
    return [f"{protocol}://{name}" for name, about in found.items() if about.get("type") == "file"]


def stamp(address: str) -> list[Any]:
    """What changes when the file does, as far as the store says: size, and its tag or time."""
    try:
        system, path = _system(address)
        about = system.info(path)
    except Exception as error:  # noqa: BLE001 - each store has errors of its own; scoring reports it
        return ["unreachable", type(error).__name__]
    tags = [str(about[key]) for key in ("ETag", "etag", "mtime", "LastModified", "updated", "created") if key in about]
    return [about.get("size"), *tags[:1]]


@contextmanager
def fetched(address: str, suffixes: tuple[str, ...], max_megabytes: float) -> Iterator[Path]:
    """A local copy, with a sidecar that lies beside the file; it is gone afterwards.

    Args:
        address: of one file.
        suffixes: of sidecars, the first that is there is taken.
        max_megabytes: a larger file is refused, at the latest while it comes.

    Raises:
        UsageError: it is not there, cannot be read, or is too large.
    """
    with tempfile.TemporaryDirectory(prefix="mmsa-") as folder:
        system, path = _system(address)
        name = Path(path).name or "media"
        local = Path(folder) / f"media{Path(name).suffix}"
        try:
            size = system.info(path).get("size")
            if size is not None and size > max_megabytes * 1e6:
                raise _too_large(address, max_megabytes)
            _copy(system, path, local, int(max_megabytes * 1e6), address)
            stem = path.removesuffix(Path(name).suffix)
            for suffix in suffixes:
                if suffix != local.suffix and system.exists(stem + suffix):
                    _copy(system, stem + suffix, local.with_suffix(suffix), _SIDECAR_BYTES, stem + suffix)
                    break
        except UsageError:
            raise
        except FileNotFoundError:
            raise UsageError(f"{address}: no such file") from None
        except Exception as error:  # each store has errors of its own
            raise UsageError(f"{address} cannot be fetched: {type(error).__name__}: {error}") from error
        yield local


def _copy(system: Any, path: str, local: Path, limit: int, address: str) -> None:
    with system.open(path, "rb") as source, local.open("wb") as target:
        room = shutil.disk_usage(local.parent).free
        written = 0
        while block := source.read(BLOCK):
            written += len(block)
            if written > limit:
                raise _too_large(address, limit / 1e6)
            if written > room:
                raise UsageError(f"{address}: no room for it in {local.parent.parent}: set TMPDIR to where there is")
            target.write(block)


def _too_large(address: str, megabytes: float) -> UsageError:
    return UsageError(f"{address}: is larger than {megabytes:g} MB, the most that is fetched: see --max-fetch-mb")


def _system(address: str) -> tuple[Any, str]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise UsageError(f"{address}: {error}") from None
    except ValueError as error:
        raise UsageError(f"{address} is no address that can be read: {error}") from None
    return system, path
