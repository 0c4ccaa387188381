"""The primary modality of heads in which one modality is spoken to by the others."""

from __future__ import annotations

from collections.abc import Iterable


def choose_primary(modalities: Iterable[str], primary: str | None) -> str:
    """The modality asked for; else `"text"` if there is one, else the first in sorted order.

    Args:
        modalities: names of the modalities there are.
        primary: the one asked for, or None.

    Raises:
        ValueError: `primary` is not among the modalities.

    Example:
        >>> choose_primary(["vision", "text", "audio"], None)
        'text'
        >>> choose_primary(["eeg", "ecg"], None)
        'ecg'
    """
    names = sorted(modalities)
    if primary is None:
        return "text" if "text" in names else names[0]
    if primary not in names:
        raise ValueError(f"primary must be one of {', '.join(names)}, not {primary!r}")
    return primary
