from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from mmsa.errors import UsageError
from mmsa.scoring.report import player as module
from mmsa.scoring.report.player import Media, address_from, playable

MakeVideo = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "report" / "pages").mkdir(parents=True)
    return tmp_path / "report"


def test_small_media_goes_into_the_page(make_video: MakeVideo, tmp_path: Path, folder: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 1.0)
    found = Media(folder).player(str(path), "a")
    head, data = found.source.split(",", 1)
    assert (found.kind, head) == ("video", "data:video/mp4;base64")
    assert base64.b64decode(data) == path.read_bytes()


def test_auto_links_what_is_large(
    make_video: MakeVideo, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "a b#?.mp4", 1.0)
    monkeypatch.setattr(module, "EMBED_BYTES", path.stat().st_size - 1)
    found = Media(folder).player(str(path), "a")
    assert found.source == "../../a%20b%23%3F.mp4"
    assert "move them together" in found.note


def test_auto_embeds_no_more_than_so_much_in_all(
    make_video: MakeVideo, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "a.mp4", 1.0)
    monkeypatch.setattr(module, "EMBED_ALL_BYTES", round(path.stat().st_size * 2.5))
    media = Media(folder)
    kinds = [media.player(str(path), f"a{k}").source[:5] for k in range(3)]
    assert kinds == ["data:", "data:", "../.."]


def test_a_copy_lies_beside_the_pages_and_is_made_once(make_video: MakeVideo, tmp_path: Path, folder: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 1.0)
    found = Media(folder, "copy").player(str(path), "name")
    copy = folder / "media" / "name.mp4"
    assert found.source == "../media/name.mp4"
    assert copy.read_bytes() == path.read_bytes()
    before = copy.stat().st_ino
    Media(folder, "copy").player(str(path), "name")
    assert copy.stat().st_ino == before
    make_video(path, 1.5)
    Media(folder, "copy").player(str(path), "name")
    assert copy.read_bytes() == path.read_bytes()


def test_what_browsers_do_not_play_is_converted(make_video: MakeVideo, tmp_path: Path, folder: Path) -> None:
    path = make_video(tmp_path / "a.avi", 1.0)
    assert playable(path) == ("video", "")
    found = Media(folder, "link").player(str(path), "a")
    assert found.source == "../media/a.mp4"
    assert "conversion" in found.note
    assert playable(folder / "media" / "a.mp4") == ("video", ".mp4")


def test_images_sound_addresses_and_what_has_gone(tmp_path: Path, folder: Path, write_wav: Callable[..., Path]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    media = Media(folder, "link")
    assert media.player(str(tmp_path / "a.png"), "a").kind == "image"
    sound = media.player(str(write_wav(tmp_path / "a.wav", [0.5])), "a")
    assert (sound.kind, sound.source) == ("audio", "../../a.wav")
    assert media.player("s3://bucket/a.mp4", "a").kind == "none"
    gone = media.player(str(tmp_path / "gone.mp4"), "a")
    assert gone.kind == "none"
    assert "cannot be read any more" in gone.note


def test_an_unknown_way_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"no way to play media 'embedd'. Did you mean 'embed'"):
        Media(folder, "embedd")


@pytest.mark.parametrize("name", ["javascript:alert(1)", "a\"'<b>.mp4", "%2e%2e", "c:\\d", "ü長 .mp4", "a?b#c"])
def test_no_name_makes_another_kind_of_address(tmp_path: Path, name: str) -> None:
    address = address_from(tmp_path, tmp_path / name)
    assert re.fullmatch(r"[\w.~%-]+", address, flags=re.ASCII)
    assert unquote(address) == name
