"""What decides a clip's features: the part of a clip that an extractor sees, as a digest.

An extractor of sound or picture sees a stretch of a media file; one of text sees the words as well. What else a clip
has (id, split, labels, speaker, the corpus's name) changes no feature and is left out. So all folds of a corpus, and
corpora that differ in labels or, for sound and picture, in language, share their features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mmsa.corpora.clip import Clip
from mmsa.features.media import MediaIdentity

if TYPE_CHECKING:
    from extractors.base import Extractor

DIGEST_BYTES = 16


def reads_words(extractor: Extractor) -> bool:
    """Whether an extractor sees a clip's transcript, beside its media."""
    import extractors as ex

    return isinstance(extractor, ex.TextExtractor)


def clip_digests(clips: Sequence[Clip], words: bool, media: Mapping[Path, MediaIdentity]) -> list[bytes]:
    """16 bytes per clip; two clips have the same exactly when an extractor sees the same in both.

    Args:
        clips: of a corpus.
        words: whether the extractor reads (see `reads_words`).
        media: identity of every media file that a clip names.
    """
    return [_digest(clip, words, media) for clip in clips]


def _digest(clip: Clip, words: bool, media: Mapping[Path, MediaIdentity]) -> bytes:
    seen: list[object] = [clip.transcript if words else None]
    if words and clip.timed is not None:
        seen.append(asdict(clip.timed))
    if clip.files:
        # With the ending, by which decoders tell some formats that their bytes alone do not.
        seen += [[media[path].content, path.suffix.lower()] for path in clip.files]
        seen += [clip.start_seconds, clip.end_seconds]
    return hashlib.blake2b(json.dumps(seen).encode(), digest_size=DIGEST_BYTES).digest()


def table_key(digests: Sequence[bytes]) -> str:
    """16 hexadecimal digits for these clips in this order."""
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]
