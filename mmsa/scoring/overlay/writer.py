"""Writing the overlay of a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmsa.errors import UsageError
from mmsa.scoring.encode import Track, rewrite
from mmsa.scoring.files import whole_file
from mmsa.scoring.lines import read_lines
from mmsa.scoring.remote import is_address
from mmsa.scoring.results import Score
from mmsa.scoring.scorer import Progress

if TYPE_CHECKING:
    from extractors import Extractor
    from extractors.facial.facemesh import FaceMesh
    from mmsa.scoring.overlay.painter import OverlayPainter

TAG = "mmsa row "
"""What the comment in an overlay's file begins with; the key of its row follows."""


@dataclass(frozen=True)
class Overlay:
    """A video (or, of a still image, a picture) with the scores drawn into it.

    Attributes:
        path: where it is.
        codec: what encoded it: `"libx264"`, `"libopenh264"`, or `"png"`.
        frames: how many pictures were drawn.
        notes: what a user should know of it.
        kept: whether it was there already, made of the same row.
    """

    path: Path
    codec: str = ""
    frames: int = 0
    notes: tuple[str, ...] = ()
    kept: bool = False


def face_tracker(extractors: Mapping[str, Extractor]) -> FaceMesh | None:
    """The extractor of a model that follows a face, or None."""
    from extractors.facial.facemesh import FaceMesh

    return next((one for one in extractors.values() if isinstance(one, FaceMesh)), None)


def write_overlay(
    score: Score, target: str | Path, tracker: FaceMesh | None = None, *, progress: Progress | None = None
) -> Overlay:
    """Draw a result into its media: face mesh, scores, emotion bars, timeline with playhead, subtitle.

    Videos keep the times of their pictures and their sound. Of sound alone a card is made, with the panel below it. Of
    a still image a PNG. A file of the same row that is there already is kept.

    Args:
        score: of media that can still be read.
        target: where to; it gets the suffix `.mp4`, or `.png`. Its folder must be there.
        tracker: what found the faces when the media was scored (`face_tracker(scorer.extractors)`); None draws no mesh.
        progress: called with the seconds that are drawn, and how many the file announces.

    Raises:
        UsageError: the result is an error, its media cannot be opened here, or the target is the media itself.
        extractors.MediaError: the media cannot be read.
    """
    from extractors.image_post import find_still_images
    from mmsa.scoring.overlay.painter import OverlayPainter

    if score.error is not None:
        raise UsageError(f"{score.path} has no scores to draw: {score.error}")
    if is_address(score.path):
        raise UsageError(f"{score.path}: an overlay is drawn of media on this machine; fetch it first and score that")
    path = Path(score.path)
    image = bool(find_still_images(path))
    place = Path(target).with_name(f"{Path(target).name}{'.png' if image else '.mp4'}")
    if place.exists() and place.samefile(path):
        raise UsageError(f"the overlay would replace the media itself, {path}: give another folder")
    if score.key and read_key(place) == score.key:
        return Overlay(place, kept=True)
    painter = OverlayPainter(score, read_lines(score))
    notes = list(painter.notes)
    if tracker is None:
        notes.append("no face mesh: the model follows no face")
    if image:
        return _draw_image(score, path, place, painter, tracker, tuple(notes))
    track = _track(path, tracker)
    span = score.start_seconds, score.end_seconds
    about = {"comment": f"{TAG}{score.key}"}
    made = rewrite(path, place, painter, span=span, track=track, metadata=about, progress=progress)
    return Overlay(place, made.codec, made.frames, (*notes, *made.notes))


def read_key(path: Path) -> str:
    """The key of the row that an overlay was made of; "" where there is none."""
    import av

    if path.suffix == ".png":
        from PIL import Image

        try:
            with Image.open(path, formats=("PNG",)) as image:
                comment = str(image.info.get("comment", ""))
        except OSError:
            return ""
    else:
        try:
            with av.open(f"file:{path}") as container:
                comment = container.metadata.get("comment", "")
        except (OSError, av.error.FFmpegError):
            return ""
    return comment.removeprefix(TAG) if comment.startswith(TAG) else ""


def _track(path: Path, tracker: FaceMesh | None) -> Track | None:
    from extractors.facial.facemesh import SEVERAL
    from extractors.media import MediaFile
    from mmsa.scoring.overlay.several import SeveralTrack
    from mmsa.scoring.overlay.track import FaceTrack

    if tracker is None:
        return None
    with MediaFile(path) as media:
        if media.info.video is None:
            return None
        if tracker.faces in SEVERAL:
            sound = media.info.audio is not None and bool(media.info.audio.codec)
            return SeveralTrack(tracker, media.pixel_aspect, sound=sound, latest_seconds=media.latest_seconds)
        return FaceTrack(tracker, media.pixel_aspect)


def _draw_image(
    score: Score, path: Path, place: Path, painter: OverlayPainter, tracker: FaceMesh | None, notes: tuple[str, ...]
) -> Overlay:
    import numpy as np
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from extractors.facial.facemesh import SEVERAL
    from extractors.still_image import read_still_image
    from mmsa.scoring.overlay.several import faces_of

    side = 1280 if tracker is None else tracker.max_side_pixels
    picture = read_still_image(path, side).pixels
    face = None
    if tracker is not None and tracker.faces in SEVERAL:
        face = faces_of(tracker, picture)
    elif tracker is not None:
        source = tracker.open_source()
        try:
            points = source.find(picture)
        finally:
            source.close()
        if points is not None and np.isfinite(points).all():
            face = points[:, :2] / (picture.shape[1], picture.shape[0])
    painter.size(picture.shape[1], picture.shape[0])
    about = PngInfo()
    about.add_text("comment", f"{TAG}{score.key}")
    with whole_file(place) as partial:
        Image.fromarray(painter.paint(picture, 0.0, face)).save(partial, "PNG", pnginfo=about)
    return Overlay(place, "png", 1, notes)
