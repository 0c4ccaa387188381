"""Which files a served model reads: those below the folders that it was given, and uploads."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmsa.errors import UsageError
from mmsa.scoring.remote import is_address
from mmsa.serving.settings import ServeSettings, how_to_raise
from mmsa.sidecars import find_sidecar

_MEGABYTE = 1e6


def allowed_file(given: str, settings: ServeSettings) -> Path:
    """Where the file that a request names really lies.

    A relative path is looked for below each root, in order. Links are followed before the check, those of the file and
    of a transcript beside it, so that none leads out of the roots. A refusal says nothing of what lies elsewhere.

    Args:
        given: as the request has it.
        settings: roots and the largest size.

    Raises:
        UsageError: an address, a path outside of the roots or with `..` in it, or a file too large.
    """
    if is_address(given):
        raise UsageError(f"{given}: addresses are not taken; give a path below the model's folders, or upload the file")
    if not settings.roots:
        raise UsageError(f"{given}: no paths are taken, only uploads (column media); {how_to_raise('roots')}")
    refusal = UsageError(f"{given}: does not lie below the folders that this model reads; {how_to_raise('roots')}")
    path = Path(given)
    if ".." in path.parts or "\0" in given:
        raise refusal
    candidates = [path] if path.is_absolute() else [root / path for root in settings.roots]
    try:
        real = [one.resolve() for one in candidates]
        inside = [one for one in real if _inside(one, settings)]
        if not inside:
            raise refusal
        found = next((one for one in inside if one.exists()), inside[0])
        beside = find_sidecar(found) if found.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long
        raise refusal from None
    if beside is not None and not _inside(beside.resolve(), settings):
        raise UsageError(f"{given}: the transcript beside it does not lie below the folders that this model reads")
    for one in filter(None, (found, beside)):
        if one.is_file():
            check_size(one.stat().st_size, f"{given}" if one is found else f"the transcript beside {given}", settings)
    return found


def _inside(path: Path, settings: ServeSettings) -> bool:
    return any(path.is_relative_to(root) for root in settings.roots)


def check_size(size: int, what: str, settings: ServeSettings) -> None:
    """Refuse what is too large.

    Raises:
        UsageError: it is.
    """
    if size > settings.max_megabytes * _MEGABYTE:
        raise UsageError(
            f"{what}: {size / _MEGABYTE:.1f} MB, but at most {settings.max_megabytes:g} MB are taken; "
            f"{how_to_raise('max_megabytes')}"
        )


@contextmanager
def uploaded(media: bytes, settings: ServeSettings) -> Iterator[Path]:
    """An upload as a file in a folder of its own, gone afterwards.

    Raises:
        UsageError: it is too large.
    """
    check_size(len(media), "the upload", settings)
    with tempfile.TemporaryDirectory(prefix="mmsa-upload-") as folder:
        path = Path(folder) / "upload"
        path.write_bytes(media)
        yield path
