"""Whether extractors suit the language that is spoken."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from extractors.base import Extractor


def mismatches(extractors: Mapping[str, Extractor], language: str | None) -> list[str]:
    """What to know of extractors that are made for other languages, one sentence each.

    Args:
        extractors: by modality.
        language: ISO 639-1 code of what is spoken; None where unknown, which is no mismatch.
    """
    if language is None:
        return []
    return [
        f"{extractor.spec.name} is made for {', '.join(extractor.languages)}, and the language is {language}: some of "
        f"its features say nothing here; another extractor for {key} may serve better"
        for key, extractor in sorted(extractors.items())
        if extractor.languages is not None and language not in extractor.languages
    ]


_told: set[str] = set()


def warn_of_mismatches(extractors: Mapping[str, Extractor], language: str | None, corpus: str) -> None:
    """Warn of each mismatch once in a process.

    Warns:
        UserWarning: an extractor is made for other languages than the corpus's.
    """
    for told in mismatches(extractors, language):
        message = f"corpus {corpus!r}: {told}"
        if message not in _told:
            _told.add(message)
            warnings.warn(message, stacklevel=3)
