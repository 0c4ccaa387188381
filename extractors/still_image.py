"""Reading one still image safely: a photograph, a drawing, the first frame of an animation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.errors import MediaError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
"""What is opened, by Pillow's names; no other decoder of Pillow's is ever tried."""

MAX_PIXELS = 89_478_485
"""A larger image is refused before it is decoded: a few kilobytes can announce gigabytes. This is 256 MiB of RGB, the
size from which Pillow itself warns."""

STILL_IMAGES_IN_WORDS = "still images (JPEG, PNG, WebP, BMP, GIF)"

# ISO base media files whose picture is cut into tiles that a video decoder would take for the whole.
_TILED = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis"})
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_HEAD_BYTES = 32
_ORIENTATION = 0x0112


@dataclass(frozen=True, eq=False)
class StillImage:
    """An image as it is meant to be seen.

    Attributes:
        pixels: `(H, W, 3)` uint8 RGB.
        notes: what the user should know, such as that the rest of an animation was left out.
    """

    pixels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()


def is_still_image(path: Path) -> bool:
    """Whether a file begins as one of `FORMATS` does; its name does not matter.

    Raises:
        MediaError: the file cannot be read, or is of a kind of still image that is not (HEIC, AVIF).
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise MediaError(f"{path}: not readable ({error.strerror}): check its permissions") from error
    if head[4:8] == b"ftyp" and head[8:12] in _TILED:
        raise MediaError(
            f"{path}: is a HEIC or AVIF image, which cannot be read here; allowed are {STILL_IMAGES_IN_WORDS}: "
            "convert it to JPEG or PNG"
        )
    if head.startswith(b"BM"):
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"))


def read_still_image(path: Path, max_side_pixels: int) -> StillImage:
    """Decode an image.

    It is turned as its EXIF orientation says. Grey, palette, CMYK and 16-bit images become 8-bit RGB (16-bit values
    keep their upper byte; colour profiles are not applied); what is transparent shows white, as on a page. Of an
    animation the first frame is taken.

    Args:
        path: a file for which `is_still_image` holds.
        max_side_pixels: larger images are scaled down by area so that neither side exceeds this.

    Raises:
        MediaError: more pixels than `MAX_PIXELS`, or not decodable to the end.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, which says nothing of the pixels, and of sizes, which are checked below.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                _check_pixels(path, *image.size)
                notes = _notes(image)
                rgb = _scaled(_to_rgb(_upright(image)), max_side_pixels)
    except MediaError:
        raise
    except Image.DecompressionBombError:
        raise MediaError(_too_large(path, "more")) from None
    except Exception as error:  # a damaged file makes decoders raise almost anything
        raise MediaError(
            f"{path}: cannot be decoded ({type(error).__name__}: {error}); allowed are complete "
            f"{STILL_IMAGES_IN_WORDS}: if it was cut off while being copied, get it again"
        ) from error
    return StillImage(np.array(rgb, np.uint8), notes)


def _check_pixels(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise MediaError(_too_large(path, f"{width} × {height}"))


def _too_large(path: Path, size: str) -> str:
    return f"{path}: has {size} pixels, but at most {MAX_PIXELS} in all are decoded: scale the image down"


def _notes(image: Any) -> tuple[str, ...]:
    # A telephone's JPEG may carry further pictures (depth, a preview) that are no animation.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        return ("an animation, of which only the first frame is used",)
    return ()


def _upright(image: Any) -> Any:
    """The image as EXIF 2.3, tag Orientation, says that it was held; unreadable EXIF turns nothing."""
    from PIL.Image import Transpose

    turns: Mapping[Any, Transpose] = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001 - see `read_still_image`
        orientation = None
    return image.transpose(turns[orientation]) if orientation in turns else image


def _to_rgb(image: Any) -> Any:
    from PIL import Image

    if image.mode.startswith("I"):  # converting would cut 16-bit values off at 255
        return Image.fromarray((np.clip(np.asarray(image), 0, 0xFFFF) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        page = Image.new("RGBA", seen.size, "white")
        return Image.alpha_composite(page, seen).convert("RGB")
    return image.convert("RGB")


def _scaled(image: Any, max_side_pixels: int) -> Any:
    from PIL.Image import Resampling

    scale = max_side_pixels / max(image.size)
    if scale >= 1.0:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Resampling.BOX)
