"""Still images through `extract`: one, several, broken ones, beside text and sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import extractors
from extractors import extract
from extractors.errors import MediaError
from extractors.image_post import find_still_images, look_at
from extractors.vision.colour import Colour, describe

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """A red, a green and a blue picture."""
    paths = [tmp_path / f"{k}.png" for k in range(len(COLOURS))]
    for path, colour in zip(paths, COLOURS, strict=True):
        Image.new("RGB", (30, 20), colour).save(path)
    return paths


def plain(colour: tuple[int, int, int]) -> np.ndarray:
    """What `vision.colour` says of such a picture."""
    return describe([np.full((20, 30, 3), colour, np.uint8)])[0]


def test_one_image_is_one_step_without_sound(photos: list[Path]) -> None:
    chosen = {name: extractors.build(name) for name in ("speech.librosa", "vision.colour", "text.lexical")}
    found = extract(photos[0], {k.modality: k for k in chosen.values()}, transcript="so red")
    assert np.array_equal(found.sequences["vision"].values, [plain(COLOURS[0])])
    assert found.sequences["vision"].times.tolist() == [[0.0, 1.0]]
    assert found.sequences["text"].times.tolist() == [[0.0, 1.0], [1.0, 2.0]]
    assert found.missing == {"audio": "a still image has no sound"}
    assert found.duration_seconds == 0.0
    assert found.notes == ()


def test_several_images_keep_their_order(photos: list[Path]) -> None:
    found = extract([photos[2], photos[0], photos[1]], {"vision": Colour()})
    assert np.array_equal(found.sequences["vision"].values, [plain(COLOURS[k]) for k in (2, 0, 1)])
    assert found.sequences["vision"].times.tolist() == [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    assert found.missing == {}


def test_an_animation_is_noted(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (30, 20), colour) for colour in COLOURS[:2])
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    looked = look_at([tmp_path / "a.gif"], Colour())
    assert looked.notes == ("an animation, of which only the first frame is used",)
    assert np.array_equal(looked.sequence.values, [plain(COLOURS[0])])


def test_a_broken_one_of_several_is_left_out(photos: list[Path]) -> None:
    photos[1].write_bytes(photos[1].read_bytes()[:50])
    found = extract(photos, {"vision": Colour()})
    assert found.sequences["vision"].times.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert len(found.notes) == 1
    assert found.notes[0].startswith(f"left out: {photos[1]}: cannot be decoded")
    with pytest.raises(MediaError, match="cannot be decoded"):
        extract(photos[1], {"vision": Colour()})


def test_what_several_files_must_be(photos: list[Path], tmp_path: Path, media: Callable[..., Path]) -> None:
    video = media("a.mp4", frames=[np.zeros((20, 32, 3), np.uint8)] * 5)
    assert find_still_images(video) == ()
    assert find_still_images(str(photos[0])) == (photos[0],)
    with pytest.raises(MediaError, match=r"a.mp4: is no still image; only those can be several"):
        extract([photos[0], video], {"vision": Colour()})
    with pytest.raises(ValueError, match="no file given"):
        extract([], {"vision": Colour()})
    with pytest.raises(MediaError, match=r"gone.png: No such file"):
        extract([photos[0], tmp_path / "gone.png"], {"vision": Colour()})


@pytest.mark.parametrize("times", [{"start_seconds": 1.0}, {"end_seconds": 2.0}])
def test_an_image_has_no_segments(photos: list[Path], times: dict) -> None:
    with pytest.raises(MediaError, match="a still image has no segments"):
        extract(photos[0], {"vision": Colour()}, **times)


def test_a_photograph_has_a_face(astronaut: np.ndarray, tmp_path: Path) -> None:
    """The same numbers as from the array; a picture between two of the face changes nothing: none is tracked."""
    face, nobody = tmp_path / "face.png", tmp_path / "nobody.png"
    Image.fromarray(astronaut).save(face)
    Image.new("RGB", astronaut.shape[1::-1], (90, 90, 90)).save(nobody)
    mesh = extractors.build("facial.facemesh")
    stream = mesh.stream()  # type: ignore[attr-defined]
    stream.push(astronaut, [0])
    expected = stream.finish().values
    found = extract([face, nobody, face], {"vision": mesh})
    assert expected.shape == (1, len(mesh.names))
    assert np.array_equal(found.sequences["vision"].values, np.repeat(expected, 2, axis=0))
    assert found.sequences["vision"].times.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    alone = extract(nobody, {"vision": mesh})
    assert alone.missing == {"vision": "no face found in 1 sampled frame"}


def test_a_picture_has_no_speaker_and_the_largest_face_stands_in(astronaut: np.ndarray, tmp_path: Path) -> None:
    page = np.full((560, 1000, 3), 90, np.uint8)
    page[20:532, 480:992] = astronaut
    page[20:400, 10:390] = np.asarray(Image.fromarray(astronaut).resize((380, 380)))
    Image.fromarray(page).save(tmp_path / "two.png")
    found = extractors.extract(tmp_path / "two.png", {"vision": extractors.build("facial.facemesh", faces="speaking")})
    assert found.sequences["vision"].values[0, 3] == pytest.approx((703 - 500) / 1000, abs=0.05)
    assert found.notes == ("without sound nobody can tell which of several faces speaks: the largest stands in",)
    both = extractors.extract(tmp_path / "two.png", {"vision": extractors.build("facial.facemesh", faces="all")})
    assert both.sequences["vision"].times.tolist() == [[0.0, 1.0]] * 2
    assert both.sequences["vision"].values[:, -1].tolist() == [0, 1]
