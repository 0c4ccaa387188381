"""What a page plays: the media itself, a copy, or a conversion where browsers cannot play it."""

from __future__ import annotations

import base64
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mmsa.errors import UsageError
from mmsa.scoring.files import whole_file
from mmsa.scoring.remote import is_address

CHOICES = ("auto", "link", "copy", "embed")
EMBED_BYTES = 25_000_000
"""The largest file that `auto` puts into a page."""

EMBED_ALL_BYTES = 250_000_000
"""`auto` stops putting media into pages when a report holds so much."""

# Containers and codecs that Chromium, Firefox and Safari all play.
_CONTAINERS = {
    "mp4": ({"h264", "av1"}, {"aac", "mp3", "flac", "opus"}),
    "webm": ({"vp8", "vp9", "av1"}, {"vorbis", "opus"}),
    "wav": (set(), {"pcm_s16le", "pcm_u8"}),
    "mp3": (set(), {"mp3", "mp3float"}),
    "flac": (set(), {"flac"}),
    "aac": (set(), {"aac"}),
    "ogg": (set(), {"vorbis", "opus"}),
}
_PIXELS = {"", "yuv420p", "yuvj420p"}


@dataclass(frozen=True)
class Player:
    """What is played.

    Attributes:
        kind: `"video"`, `"audio"`, `"image"` or `"none"`.
        source: a relative address, or a `data:` address; "" for none.
        note: what the page needs to play it, or why there is nothing to play.
        embedded: bytes of media in the page.
    """

    kind: str
    source: str = ""
    note: str = ""
    embedded: int = 0


class Media:
    """Decides what each page of a report plays.

    Args:
        folder: of the report; pages lie in `pages/`, copies and conversions in `media/`.
        choice: one of `CHOICES`. `"link"` plays the media where it lies; `"copy"` puts a copy beside the pages, so that
            the folder can be moved; `"embed"` puts it into the page, which is then a single file; `"auto"` embeds files
            of up to `EMBED_BYTES`, `EMBED_ALL_BYTES` in all, and links the others.

    Raises:
        UsageError: another choice.
    """

    def __init__(self, folder: Path, choice: str = "auto") -> None:
        from mmsa.errors import unknown

        if choice not in CHOICES:
            raise unknown("way to play media", choice, CHOICES)
        self._folder, self._choice = folder, choice
        self._embedded = 0

    def player(self, path: str, name: str) -> Player:
        """What the page of a file plays.

        Args:
            path: of the media, as scored.
            name: of the page, without a suffix.
        """
        import extractors as ex
        from extractors.image_post import find_still_images
        from mmsa.scoring.report.thumbnails import still

        if is_address(path):
            return Player("none", note="The media was read from an address, which this page does not open.")
        try:
            if find_still_images(path):
                return Player("image", still(Path(path)))
            kind, suffix = playable(Path(path))
        except ex.MediaError as error:
            return Player("none", note=f"The media cannot be read any more: {error}")
        if suffix:
            return self._place(kind, Path(path), name, suffix, "")
        return self._convert(kind, Path(path), name)

    def _convert(self, kind: str, path: Path, name: str) -> Player:
        import extractors as ex
        from mmsa.scoring.encode import Plain, rewrite

        target = self._made(name, ".mp4")
        why = "Browsers do not play the media as it is; this is a conversion of it."
        if not (target.is_file() and target.stat().st_mtime_ns == path.stat().st_mtime_ns):
            try:
                rewrite(path, target, Plain())
            except (ex.MediaError, UsageError) as error:
                return Player("none", note=f"Browsers do not play this media, and it could not be converted: {error}")
            times = path.stat()
            os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
        if kind == "audio":
            kind = "video"  # of black, with the sound
        if self._embeds(target):
            return self._place(kind, target, name, ".mp4", why)
        return Player(kind, self._address(target), f"{why} {_needs(target, self._folder)}")

    def _place(self, kind: str, path: Path, name: str, suffix: str, why: str) -> Player:
        if self._embeds(path):
            size = path.stat().st_size
            self._embedded += size
            text = base64.b64encode(path.read_bytes()).decode()
            type_ = f"{'video' if kind == 'video' else 'audio'}/{_TYPES.get(suffix, suffix[1:])}"
            return Player(kind, f"data:{type_};base64,{text}", why, size)
        if self._choice == "copy":
            path = self._copied(path, self._made(name, suffix))
        return Player(kind, self._address(path), f"{why} {_needs(path, self._folder)}".strip())

    def _embeds(self, path: Path) -> bool:
        if self._choice != "auto":
            return self._choice == "embed"
        size = path.stat().st_size
        return size <= EMBED_BYTES and self._embedded + size <= EMBED_ALL_BYTES

    def _made(self, name: str, suffix: str) -> Path:
        (self._folder / "media").mkdir(exist_ok=True)
        return self._folder / "media" / f"{name}{suffix}"

    def _copied(self, path: Path, target: Path) -> Path:
        given = path.stat()
        there = target.stat() if target.is_file() else None
        if there is None or (there.st_size, there.st_mtime_ns) != (given.st_size, given.st_mtime_ns):
            with whole_file(target) as partial:
                shutil.copyfile(path, partial)
            os.utime(target, ns=(given.st_atime_ns, given.st_mtime_ns))
        return target

    def _address(self, path: Path) -> str:
        return address_from(self._folder / "pages", path)


_TYPES = {".mp3": "mpeg", ".m4a": "mp4"}


def _needs(path: Path, folder: Path) -> str:
    inside = path.resolve().is_relative_to(folder.resolve())
    where = "in this report's folder" if inside else "where it was scored"
    return f"This page plays the file {path.name} {where}; move them together."


def address_from(folder: Path, path: Path) -> str:
    """The relative address of a file for a page in a folder; nothing in a name makes it another kind of address.

    Example:
        >>> address_from(Path("/r/pages"), Path("/m/50% off?.mp4"))
        '../../m/50%25%20off%3F.mp4'
    """
    relative = os.path.relpath(path.resolve(), folder.resolve())
    return "/".join(quote(os.fsencode(part), safe="") for part in f"./{relative}".split("/")).removeprefix("./")


def playable(path: Path) -> tuple[str, str]:
    """Whether a file is `"video"` or `"audio"`, and a suffix of its kind if all browsers play it, else "".

    Raises:
        extractors.MediaError: it cannot be read.
    """
    from extractors.media import MediaFile

    with MediaFile(path) as media:
        info = media.info
    kind = "audio" if info.video is None else "video"
    for container in info.formats:
        name = "webm" if container == "matroska" and path.suffix.lower() == ".webm" else container
        videos, sounds = _CONTAINERS.get(name, (set(), set()))
        fits = info.audio is None or info.audio.codec in sounds
        if info.video is not None:
            fits = fits and _decoder(info.video.codec) in videos and info.video.pixel_format in _PIXELS
        if name in _CONTAINERS and fits:
            return kind, ".m4a" if (name, kind) == ("mp4", "audio") else f".{name}"
    return kind, ""


def _decoder(name: str) -> str:
    """FFmpeg's own name of a codec: decoders from other libraries carry theirs in front or behind."""
    return {"libdav1d": "av1", "libaom-av1": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9"}.get(name, name)
