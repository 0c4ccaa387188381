"""Still images: every kind comes out as it is meant to be seen, and what is hostile or broken is refused."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from extractors.errors import MediaError
from extractors.still_image import MAX_PIXELS, is_still_image, read_still_image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def quarters(width: int = 60, height: int = 40) -> np.ndarray:
    """Red above left, blue below right, white elsewhere: no turn or mirroring maps it onto itself."""
    image = np.full((height, width, 3), 255, np.uint8)
    image[: height // 2, : width // 2] = RED
    image[height // 2 :, width // 2 :] = BLUE
    image[: height // 4, : width // 4] = 0
    return image


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def pixels(path: Path, side: int = 4096) -> np.ndarray:
    assert is_still_image(path)
    return read_still_image(path, side).pixels


@pytest.mark.parametrize(
    ("name", "options", "exact"),
    [
        ("a.png", {}, True),
        ("a.bmp", {}, True),
        ("a.gif", {}, True),
        ("a.webp", {"lossless": True}, True),
        ("a.webp", {"quality": 95}, False),
        ("a.jpg", {"quality": 95}, False),
        ("a.jpg", {"quality": 95, "progressive": True}, False),
    ],
)
def test_formats(tmp_path: Path, name: str, options: dict, exact: bool) -> None:
    found = pixels(save(tmp_path / name, quarters(), **options))
    assert found.dtype == np.uint8
    assert found.flags["C_CONTIGUOUS"]
    if exact:
        assert np.array_equal(found, quarters())
    else:
        assert np.abs(found.astype(int) - quarters()).mean() < 6


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", quarters()).rename(tmp_path / "a.mp4")
    assert np.array_equal(pixels(path), quarters())


# EXIF 2.3, 4.6.4, tag Orientation: where row 0 and column 0 of the stored image are to be seen.
SEEN = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: stored.transpose(1, 0, 2)[:, ::-1],
    7: lambda stored: stored.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda stored: stored.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", SEEN)
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_exif_orientation(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = pixels(save(tmp_path / name, quarters(), exif=exif, quality=95))
    expected = SEEN[orientation](quarters())
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 6


def test_broken_exif_turns_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", quarters(), quality=95, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff")
    assert pixels(path).shape == (40, 60, 3)


def test_grey_palette_and_cmyk(tmp_path: Path) -> None:
    grey = np.tile(np.arange(0, 240, 4, dtype=np.uint8), (40, 1))
    assert np.array_equal(pixels(save(tmp_path / "grey.png", grey)), np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(pixels(save(tmp_path / "palette.png", quarters(), "P")), quarters())
    found = pixels(save(tmp_path / "cmyk.jpg", quarters(), "CMYK", quality=95))
    assert np.abs(found.astype(int) - quarters()).mean() < 6


def test_sixteen_bits_keep_the_upper_byte(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 40 * 60).astype(np.uint16).reshape(40, 60)
    found = pixels(save(tmp_path / "deep.png", deep))
    assert np.array_equal(found, np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_what_is_transparent_shows_white(tmp_path: Path) -> None:
    array = np.zeros((10, 12, 4), np.uint8)
    array[..., 0] = 200
    array[:, 4:8, 3] = 255
    array[:, 8:, 3] = 128
    found = pixels(save(tmp_path / "a.png", array))
    assert (found[:, :4] == 255).all()
    assert (found[:, 4:8] == (200, 0, 0)).all()
    # 200 · 128/255 + 255 · 127/255 = 227.4 and 127 of white where there is no red
    assert np.abs(found[:, 8:].astype(int) - (227, 127, 127)).max() <= 1


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_the_first_frame_of_an_animation(tmp_path: Path, name: str) -> None:
    first, second = Image.fromarray(quarters()), Image.new("RGB", (60, 40), BLUE)
    first.save(tmp_path / name, save_all=True, append_images=[second], duration=100, lossless=True)
    image = read_still_image(tmp_path / name, 4096)
    assert np.abs(image.pixels.astype(int) - quarters()).mean() < 1
    assert image.notes == ("an animation, of which only the first frame is used",)
    assert read_still_image(save(tmp_path / f"one-{name}", quarters()), 4096).notes == ()


def test_large_ones_are_averaged_by_area(tmp_path: Path) -> None:
    fine = np.random.default_rng(0).integers(0, 256, (120, 80, 3), dtype=np.uint8)
    found = pixels(save(tmp_path / "a.png", fine), side=60)
    expected = fine.reshape(60, 2, 40, 2, 3).mean(axis=(1, 3))
    assert found.shape == (60, 40, 3)
    assert np.abs(found - expected).max() <= 1.0
    assert np.array_equal(pixels(tmp_path / "a.png", side=120), fine)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """A few bytes that announce more pixels than are decoded, once up to Pillow's own limit and once beyond it."""
    for side in (9_500, 60_000):
        assert side * side > MAX_PIXELS
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        path = tmp_path / f"{side}.png"
        data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
        with pytest.raises(MediaError, match=f"has .* pixels, but at most {MAX_PIXELS} in all .*: scale the image"):
            read_still_image(path, 512)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif"])
def test_what_is_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    fine = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    whole = save(tmp_path / name, fine).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match=r"cannot be decoded .*if it was cut off"):
        read_still_image(tmp_path / name, 512)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_gives_an_image_or_a_media_error(tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["a.png", "a.jpg", "a.webp", "a.gif", "a.bmp"]))
    buffer = BytesIO()
    kind = {"jpg": "jpeg"}.get(name[2:], name[2:])
    Image.fromarray(quarters()).save(buffer, kind)
    damaged = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / name
    path.write_bytes(damaged)
    try:
        found = read_still_image(path, 64).pixels
    except MediaError:
        return
    assert found.ndim == 3
    assert found.shape[2] == 3


def test_only_the_allowed_decoders_are_tried(tmp_path: Path) -> None:
    """A TIFF and an EPS, which Pillow could open (the second by running a program), are no still images here."""
    save(tmp_path / "a.tiff", quarters())
    Image.open(tmp_path / "a.tiff").verify()
    assert not is_still_image(tmp_path / "a.tiff")
    with pytest.raises(MediaError, match="cannot be decoded"):
        read_still_image(tmp_path / "a.tiff", 512)
    (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    assert not is_still_image(tmp_path / "a.eps")
    with pytest.raises(MediaError, match="cannot be decoded"):
        read_still_image(tmp_path / "a.eps", 512)


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"avif"])
def test_heic_is_named(tmp_path: Path, brand: bytes) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(struct.pack(">I", 24) + b"ftyp" + brand + bytes(12))
    with pytest.raises(MediaError, match=r"is a HEIC or AVIF image.*convert it to JPEG or PNG"):
        is_still_image(path)


@pytest.mark.parametrize(
    "head",
    [b"", b"BM", b"BM" + bytes(30), b"RIFF\0\0\0\0AVI LIST", b"RIFF\0\0\0\0WAVEfmt ", b"\0\0\0\x18ftypisom", b"GIF"],
)
def test_other_files_are_no_still_images(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(head)
    assert not is_still_image(path)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="not readable"):
        is_still_image(tmp_path / "gone.jpg")
