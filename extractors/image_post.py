"""The still images of one clip: one photograph, or the several of a post, each looked at on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extractors.base import VisionExtractor
from extractors.errors import MediaError
from extractors.media import checked_file
from extractors.sequence import FeatureSequence
from extractors.still_image import is_still_image, read_still_image


def find_still_images(given: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    """The still images among what was given for one clip; none where it is one media file of another kind.

    Raises:
        MediaError: a file cannot be used, or one of several is no still image.
        ValueError: an empty sequence.
    """
    if isinstance(given, str | Path):
        path = checked_file(Path(given))
        return (path,) if is_still_image(path) else ()
    paths = tuple(Path(path) for path in given)
    if not paths:
        raise ValueError("no file given: pass a path, several still images, or None")
    for path in paths:
        if not is_still_image(checked_file(path)):
            raise MediaError(f"{path}: is no still image; only those can be several for one clip: give one media file")
    return paths


@dataclass(frozen=True)
class Looked:
    """What an extractor saw in the images of one clip.

    Attributes:
        sequence: the steps of image `k` have the time from `k` to `k + 1` seconds.
        reason: why there is none, where there is none.
        notes: images left out, animations cut short.
    """

    sequence: FeatureSequence
    reason: str
    notes: tuple[str, ...]


def look_at(paths: Sequence[Path], extractor: VisionExtractor) -> Looked:
    """Look at each image through a stream of its own, so that nothing is tracked from one to the next.

    Of several images, one that cannot be decoded is left out with a note.

    Raises:
        MediaError: none can be decoded.
    """
    values, times, reasons = [], [], list[str]()
    notes, broken = list[str](), list[MediaError]()
    for number, path in enumerate(paths):
        try:
            image = read_still_image(path, extractor.max_side_pixels)
        except MediaError as error:
            broken.append(error)
            notes.append(f"left out: {error}")
            continue
        notes += image.notes
        stream = extractor.stream()
        try:
            if extractor.listens_at_hz is not None:
                stream.no_more_sound()
            stream.push(image.pixels, [0])
            seen = stream.finish()
            reasons.append(stream.missing_reason())
            notes += stream.notes()
        finally:
            stream.close()
        values.append(seen.values)
        times.append(np.tile(np.array([number, number + 1.0]), (len(seen), 1)))
    if not reasons:
        raise broken[0]
    sequence = FeatureSequence(np.concatenate(values), np.concatenate(times), extractor.names)
    return Looked(sequence, reasons[0], tuple(notes))
