"""Transcripts that lie beside their media file: `talk.srt` beside `talk.mp4`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from extractors.transcript import TRANSCRIPT_SUFFIXES
from mmsa.errors import UsageError

if TYPE_CHECKING:
    from extractors import Transcript

SIDECARS = TRANSCRIPT_SUFFIXES
"""What they end in; where several are there, the first of these counts."""


def read_sidecar(path: Path) -> Transcript:
    """The transcript that lies beside a media file; an empty one where there is none.

    Raises:
        UsageError: it cannot be read.
    """
    import extractors as ex

    beside = find_sidecar(path)
    if beside is None:
        return ex.Transcript()
    try:
        return ex.read_transcript(beside)
    except (ValueError, OSError) as error:
        raise UsageError(f"the transcript beside {path.name} cannot be read: {error}") from error


def find_sidecar(path: Path) -> Path | None:
    """The first of `SIDECARS` that lies beside a media file."""
    for suffix in SIDECARS:
        beside = path.with_suffix(suffix)
        if beside.is_file() and beside != path:
            return beside
    return None
