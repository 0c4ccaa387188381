"""Pictures of single moments of a file, as data addresses."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDE_PIXELS = 320
STILL_SIDE_PIXELS = 1280
_INSTANTS_PER_SECOND = 20.0


def thumbnails(path: Path, seconds: Iterable[float]) -> dict[float, str]:
    """A small JPEG, as a `data:` address, of what is on screen at each moment; moments without a picture are left out.

    Args:
        path: a media file.
        seconds: on the media's clock.

    Raises:
        extractors.MediaError: the file cannot be read.
    """
    found = {}
    for at in dict.fromkeys(seconds):
        picture = _frame_at(path, at)
        if picture is not None:
            found[at] = to_data_address(picture)
    return found


def _frame_at(path: Path, seconds: float) -> NDArray[np.uint8] | None:
    """What is on screen, or what comes within a second; the file is opened anew for each seek."""
    from extractors.frame_sampler import FrameSampler
    from extractors.media import MediaFile

    pictures: list[NDArray[np.uint8]] = []

    class First(FrameSampler):
        """Wants no more when it has one."""

        @property
        def done(self) -> bool:
            return bool(pictures) or super().done

    with MediaFile(path) as media:
        if media.info.video is None:
            return None
        first = round(seconds * _INSTANTS_PER_SECOND)
        sampler = First(
            _INSTANTS_PER_SECOND,
            SIDE_PIXELS,
            lambda image, _: pictures.append(image),
            first_index=first,
            end_index=first + round(_INSTANTS_PER_SECOND),
            latest_seconds=media.latest_seconds,
            aspect=media.pixel_aspect,
        )
        media.decode(None, sampler, start_seconds=seconds)
    return pictures[0] if pictures else None


def still(path: Path) -> str:
    """A still image as a `data:` address, as it is meant to be seen.

    Raises:
        extractors.MediaError: it cannot be read.
    """
    from extractors.still_image import read_still_image

    return to_data_address(read_still_image(path, STILL_SIDE_PIXELS).pixels)


def to_data_address(picture: NDArray[np.uint8]) -> str:
    """A `(H, W, 3)` RGB picture as a JPEG in a `data:` address."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=80, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
