"""What `benchmarks/extraction.py` times, each in a process of its own that has everything imported and warmed up."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import numpy as np
from extraction_media import shortest
from numpy.typing import NDArray

Result = dict[str, float]
GROUP = 60
"""Frames that are held in memory at once where FaceMesh is timed alone."""


class Clock:
    """Wall and processor seconds, added up over what is timed."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.processor += time.process_time() - self._began[1]

    def result(self, **more: float) -> Result:
        """For the report."""
        return {"wall": self.wall, "processor": self.processor, **more}


def ours(path: Path, fps: float | None) -> Result:
    """`extractors.extract` with the default extractors of sound and face."""
    import extractors as ex

    built = _built(fps)
    ex.extract(path, built, end_seconds=1.0)
    clock = Clock()
    with clock:
        found = ex.extract(path, built)
    return clock.result(**{key: float(len(sequence)) for key, sequence in found.sequences.items()})


def _built(fps: float | None) -> dict[str, Any]:
    import extractors as ex

    vision = ex.build("facial.facemesh", **({} if fps is None else {"frames_per_second": fps}))
    return {"audio": ex.build("speech.librosa"), "vision": vision}


def decode(path: Path, fps: float | None) -> Result:
    """FFmpeg (PyAV's) decodes every packet of sound and picture with all its threads; what comes out is dropped."""
    del fps
    _decode(path, 30)
    clock = Clock()
    with clock:
        frames = _decode(path, None)
    return clock.result(frames=float(frames))


def _decode(path: Path, most: int | None) -> int:
    frames = 0
    with av.open(str(path)) as media:
        both: list[Any] = [*media.streams.video, *media.streams.audio]
        for stream in both:
            stream.thread_type = "AUTO"
        for packet in media.demux():
            frames += sum(isinstance(frame, av.VideoFrame) for frame in packet.decode())
            if most is not None and frames >= most:
                break
    return frames


def mesh(path: Path, fps: float | None) -> Result:
    """MediaPipe's FaceMesh as it comes, on the frames that are sampled, in memory already."""
    face_mesh = _face_mesh()
    clock, found, seen = Clock(), 0, 0
    for images in _sampled(path, 10.0 if fps is None else fps):
        with clock:
            found += sum(face_mesh.process(image).multi_face_landmarks is not None for image in images)
        seen += len(images)
    return clock.result(frames=float(seen), faces=float(found))


def _face_mesh() -> Any:
    import mediapipe

    face_mesh = mediapipe.solutions.face_mesh.FaceMesh(refine_landmarks=True)
    face_mesh.process(np.zeros((64, 64, 3), np.uint8))
    return face_mesh


def _sampled(path: Path, fps: float) -> Iterator[list[NDArray[np.uint8]]]:
    """The frames shown at `k / fps`, in groups."""
    images: list[NDArray[np.uint8]] = []
    number = 0
    with av.open(str(path)) as media:
        for frame in media.decode(video=0):
            if frame.time + 1e-3 < number / fps:
                continue
            images.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
            number += 1
            if len(images) == GROUP:
                yield images
                images = []
    yield images


def peer(folder: Path, fps: float | None, jobs: int = 1) -> Result:
    """MMSA-FET's way, without imports and the start of its processes; clips are dealt out to these in equal parts.

    Restated from its 0.4.1. For each clip it starts `ffmpeg` to write the frames as BMP, and again to write the sound
    as WAV (here PyAV does, where there is no such command). A face mesh of the clip's own looks at one frame after
    the other, read back from disk, and each coordinate is asked for by its name. librosa reads the sound.
    """
    paths = sorted(folder.glob("*.mp4"))
    clips = [paths[number::jobs] for number in range(min(jobs, len(paths)))]
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        processes = [stack.enter_context(ProcessPoolExecutor(1, context)) for _ in clips]
        for ready in [process.submit(_peer_warm, paths[0]) for process in processes]:
            ready.result()
        clock = Clock()
        with clock:
            pairs = zip(processes, clips, strict=True)
            found = [process.submit(_peer_clips, own, fps or 25.0) for process, own in pairs]
            faces = sum(one.result() for one in found)
    return {"wall": clock.wall, "faces": float(faces)}


def _peer_warm(path: Path) -> None:
    """Import everything and have librosa's functions compiled."""
    with tempfile.TemporaryDirectory() as name:
        _peer_clip(shortest(path, Path(name, "first.mp4")), 25.0)


def _peer_clips(paths: list[Path], fps: float) -> int:
    return sum(len(_peer_clip(path, fps)[0]) for path in paths)


def _peer_clip(path: Path, fps: float) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    import cv2
    import librosa
    import mediapipe

    rows = []
    with tempfile.TemporaryDirectory() as name:
        sound = Path(name, "sound.wav")
        if command := shutil.which("ffmpeg"):
            for more in (
                ["-vn", "-acodec", "pcm_s16le", str(sound)],
                ["-vf", f"fps={fps}", str(Path(name, "%05d.bmp"))],
            ):
                subprocess.run([command, "-i", str(path), *more], check=True, capture_output=True)
        else:
            _to_disk(path, fps, Path(name), sound)
        with mediapipe.solutions.face_mesh.FaceMesh(refine_landmarks=True) as face_mesh:
            for place in sorted(Path(name).glob("*.bmp")):
                image = cv2.cvtColor(cv2.imread(str(place)), cv2.COLOR_BGR2RGB)
                if found := face_mesh.process(image).multi_face_landmarks:
                    rows.append([value for point in found[0].landmark for value in (point.x, point.y, point.z)])
        return np.array(rows), _peer_sound(librosa, librosa.load(sound, sr=22050)[0])


def _to_disk(path: Path, fps: float, folder: Path, sound: Path) -> None:
    import cv2
    import soundfile

    for number, image in enumerate(image for group in _sampled(path, fps) for image in group):
        cv2.imwrite(str(folder / f"{number:05}.bmp"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    resampler = av.AudioResampler(format="flt", layout="mono", rate=22050)
    with av.open(str(path)) as media:
        parts = [out.to_ndarray()[0] for frame in media.decode(audio=0) for out in resampler.resample(frame)]
    soundfile.write(sound, np.concatenate(parts), 22050)


def _peer_sound(librosa: Any, sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """CH-SIMS's 33 descriptors: zero crossings, 20 MFCCs, 12 constant-Q chroma, at 22,050 Hz every 512 samples."""
    rows = [
        librosa.feature.zero_crossing_rate(sound, hop_length=512),
        librosa.feature.mfcc(y=sound, sr=22050, n_mfcc=20, hop_length=512, htk=True),
        librosa.feature.chroma_cqt(y=sound, sr=22050, hop_length=512),
    ]
    return np.concatenate(rows)


def folder(place: Path, fps: float | None, jobs: int = 1) -> Result:
    """`mmsa.features.files.extract_files` into a new folder, its processes' start included."""
    from mmsa.features.files import extract_files, media_files

    paths = media_files(place)
    clock = Clock()
    with tempfile.TemporaryDirectory() as name, clock:
        done = list(extract_files(paths, place, Path(name), _built(fps), jobs=jobs))
    if broken := [one.error for one in done if one.error is not None]:
        raise SystemExit(f"extraction failed: {broken[0]}")
    return clock.result(files=float(len(done)))


def start(place: Path, fps: float | None, jobs: int) -> Result:
    """What `folder` takes before and after its files: as many processes, each with a clip of a tenth of a second."""
    from mmsa.features.files import extract_files

    source = min(place.glob("*.mp4"))
    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        paths = [shortest(source, Path(name, f"{number}.mp4")) for number in range(jobs)]
        with clock:
            list(extract_files(paths, Path(name), Path(name, "out"), _built(fps), jobs=jobs))
    return clock.result()


KINDS: dict[str, Callable[..., Result]] = {
    "ours": ours,
    "decode": decode,
    "mesh": mesh,
    "peer": peer,
    "folder": folder,
    "start": start,
}
