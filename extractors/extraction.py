"""`extract`: one clip in, one feature sequence per modality out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extractors.audio_track import BLOCK_SECONDS, AudioTrack, AudioTracks, Push
from extractors.base import AudioExtractor, AudioStream, Extractor, TextExtractor, VisionExtractor, VisionStream
from extractors.decode_pass import DecodeReport
from extractors.decoding import CPU, check_device, choose_device
from extractors.device_frames import DeviceFrames
from extractors.errors import MediaError
from extractors.frame_sampler import FrameSampler
from extractors.image_post import find_still_images, look_at
from extractors.media import Media, MediaFile
from extractors.notes import reading_notes
from extractors.overlap import OverlappedSound, heard_apart, watched_apart
from extractors.sequence import FeatureSequence, first_step
from extractors.transcript import Transcript

# How much sound is gathered for an extractor that watches and listens: pictures wait for it.
_LISTEN_SECONDS = 0.25

Clock = tuple[str, str]
"""A modality, and `"sound"` or `"picture"`: of which of the two everything up to some time was pushed."""


@dataclass(frozen=True)
class Extraction:
    """What was extracted from one clip.

    Attributes:
        sequences: one per requested modality, empty where it is missing; times are on the media's clock.
        missing: why, in plain words, by modality; only modalities without any step are here.
        duration_seconds: how much of the media the clip covers; 0 for still images, which have no time.
        notes: what the user should know, such as that the file breaks off.
        fallback: why frames were decoded on the CPU where a GPU was to do it, or ""; the notes tell it as well.
        notes_by_modality: of the notes, those on the features of a modality: the same ones if it is extracted alone.
    """

    sequences: dict[str, FeatureSequence]
    missing: dict[str, str]
    duration_seconds: float
    notes: tuple[str, ...] = ()
    fallback: str = ""
    notes_by_modality: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}: {seq!r}" for name, seq in self.sequences.items())
        return f"Extraction({self.duration_seconds:.2f} s, {parts})"


def extract(
    path: str | Path | Sequence[str | Path] | None,
    extractors: Mapping[str, Extractor],
    *,
    transcript: Transcript | str | None = None,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    device: str = "auto",
) -> Extraction:
    """Extract the features of a clip, reading its file once.

    A segment of a file gets the steps that the whole file has in that span: those whose middle lies in
    `[start_seconds, end_seconds)`.

    A still image is a picture without sound, looked at once. So are the images of a post that has several, each on its
    own: nothing is tracked from one to the next. The steps of image `k` get the time from `k` to `k + 1` seconds, as
    words without times take a second each: it keeps order and claims nothing else.

    Args:
        path: the media file; the still images of one post; or None where there is only a transcript.
        extractors: extractor by modality.
        transcript: what is said. Segments' times are on the media's clock; text without times is spread evenly over the
            clip.
        start_seconds: where the clip starts; None is the beginning.
        end_seconds: where it ends; None is the end. An end beyond the file's is the file's, with a note.
        device: where frames are decoded: `"cpu"`; `"cuda"` or `"cuda:N"`, the GPU's decoder; `"auto"` is the GPU where
            the extractor wants its frames there, else the CPU. It changes no number: see `extractors.decoding`. What
            the GPU cannot decode the CPU does, with a note.

    Raises:
        MediaError: the file cannot be used, nothing in it can be decoded, it ends before `start_seconds`, a segment of
            a still image is asked for, or one of several files is no still image.
        ValueError: a modality does not fit its extractor, the times are out of order, or `device` is no name of one.
        ToolError: an extractor needs something that is not installed, or `device` names a CUDA device and there is
            none.
    """
    start, end = _checked_span(start_seconds, end_seconds)
    check_modalities(extractors)
    if path is None:
        return _without_media(extractors, Transcript.of(transcript), start, end_seconds)
    if images := find_still_images(path):
        if start_seconds is not None or end_seconds is not None:
            raise MediaError(f"{images[0]}: a still image has no segments: leave start and end out")
        return _of_images(images, extractors, Transcript.of(transcript))
    assert isinstance(path, str | Path)
    with open_media(path, extractors, device) as media:
        clip = ClipPass(media, extractors, start, end)
        return clip.extract(Transcript.of(transcript))


def open_media(path: str | Path, extractors: Mapping[str, Extractor], device: str) -> MediaFile:
    """Open a file for these extractors; see `extract` for `device` and what is raised."""
    chosen, fallback = decoder_for(extractors, device)
    return MediaFile(path, device=chosen, fallback=fallback)


def decoder_for(extractors: Mapping[str, Extractor], device: str) -> tuple[str, str]:
    """Where to decode frames for these extractors, and why not on a GPU; see `extractors.decoding.choose_device`."""
    check_device(device)
    watcher = next((one for one in extractors.values() if isinstance(one, VisionExtractor)), None)
    return (CPU, "") if watcher is None else choose_device(device, watcher.frames_device)


def extract_texts(extractor: TextExtractor, transcripts: Sequence[str | None]) -> Iterator[FeatureSequence]:
    """Features of many transcripts without media, in order, batched where the extractor can.

    Args:
        extractor: any text extractor.
        transcripts: what is said, clip by clip; None or "" gives an empty sequence.
    """
    return extractor.extract_many([Transcript.of(text) for text in transcripts])


class ClipPass:
    """One decode pass over a file, or a part of it, for one clip."""

    block_seconds = BLOCK_SECONDS

    def __init__(self, media: Media, extractors: Mapping[str, Extractor], start: float, end: float) -> None:
        self._media, self._extractors = media, extractors
        self._start, self._end = start, end
        self._missing: dict[str, str] = {}
        self._notes: dict[str, list[str]] = {}
        self._fallback = ""
        self._feeds: dict[str, list[AudioTrack | FrameSampler]] = {}
        self._streams: dict[str, AudioStream | VisionStream] = {}
        self._clocks: list[Clock] = []
        self._tracks: list[AudioTrack] = []
        self._audio: AudioTracks | None = None
        self._frames: FrameSampler | None = None
        self._read_from = start

    def extract(self, transcript: Transcript) -> Extraction:
        """Read the clip."""
        try:
            self._prepare()
            if self._is_part:
                for stream in self._streams.values():
                    if isinstance(stream, VisionStream):
                        stream.expect_segment(self._start, self._end)
            end = self._decode()
            sequences = {name: self._finish(name, transcript, end) for name in self._extractors}
        finally:
            self.close()
        lasts = max(0.0, end - self._start)
        notes = {name: tuple(own) for name, own in self._notes.items()}
        return Extraction(sequences, self._missing, lasts, self._told(), self._fallback, notes)

    def close(self) -> None:
        """Free what the streams hold."""
        for stream in self._streams.values():
            if isinstance(stream, VisionStream):
                stream.close()
            elif isinstance(stream, OverlappedSound):
                stream.end()

    @property
    def _is_part(self) -> bool:
        """Whether the clip is a segment of its file."""
        return self._start > 0.0 or math.isfinite(self._end)

    def _after_push(self, clock: Clock, seconds: float) -> None:
        """For subclasses: a stream has been given all sound, or every picture, before `seconds`."""

    def _prepare(self) -> None:
        info = self._media.info
        announced = info.duration_seconds
        if announced is not None and self._start >= announced:
            raise MediaError(
                f"{self._media.path}: the clip starts at {self._start:g} s, but the file ends at "
                f"{announced:.2f} s: check the segment's times"
            )
        for name, extractor in self._extractors.items():
            if isinstance(extractor, AudioExtractor):
                if info.audio is None:
                    self._missing[name] = "no audio stream"
                elif not info.audio.codec:
                    self._missing[name] = "no decoder for the audio stream"
                else:
                    self._prepare_audio(name, extractor)
            elif isinstance(extractor, VisionExtractor):
                if info.video is None:
                    self._missing[name] = "no video stream"
                elif not info.video.codec:
                    self._missing[name] = "no decoder for the video stream"
                else:
                    self._prepare_frames(name, extractor)
        if self._tracks:
            self._audio = AudioTracks(self._tracks)

    def _prepare_audio(self, name: str, extractor: AudioExtractor) -> None:
        rate, hop = extractor.sample_rate_hz, extractor.hop_samples
        first = max(0, math.floor((self._start - extractor.context_seconds) * rate / hop) * hop)
        stream = heard_apart(extractor.stream(first))
        self._streams[name] = stream
        self._add_track(name, rate, stream.push, first, self._end + extractor.context_seconds, self.block_seconds)

    def _add_track(
        self, name: str, rate: int, push: Push, first: int, end_seconds: float, block_seconds: float
    ) -> None:
        """Have sound from a sample on pushed."""
        clock, reached = (name, "sound"), first
        self._clocks.append(clock)
        self._read_from = min(self._read_from, first / rate)

        def push_on(samples: NDArray[np.float32]) -> None:
            nonlocal reached
            push(samples)
            reached += len(samples)
            self._after_push(clock, reached / rate)

        track = AudioTrack(
            rate,
            push_on,
            first_sample=first,
            end_sample=None if math.isinf(end_seconds) else math.ceil(end_seconds * rate),
            latest_seconds=self._media.latest_seconds,
            block_seconds=block_seconds,
        )
        self._tracks.append(track)
        self._feeds.setdefault(name, []).append(track)

    def _prepare_frames(self, name: str, extractor: VisionExtractor) -> None:
        rate, clock = extractor.frames_per_second, (name, "picture")
        start, end = max(0.0, self._start - extractor.before_seconds), self._end + extractor.after_seconds
        stream = watched_apart(extractor.stream())
        self._streams[name] = stream
        self._clocks.append(clock)
        self._read_from = min(self._read_from, start)
        if extractor.listens_at_hz is not None:
            self._prepare_listening(name, stream, extractor.listens_at_hz, start, end)

        def push(image: NDArray[np.uint8], indices: Sequence[int]) -> None:
            stream.push(image, indices)
            self._after_push(clock, (indices[-1] + 1) / rate)

        side, aspect, device = extractor.max_side_pixels, self._media.pixel_aspect, extractor.frames_device
        codec = self._media.info.video.codec if self._media.info.video is not None else ""
        self._frames = FrameSampler(
            rate,
            side,
            push,
            first_index=max(0, first_step(start, rate)),
            end_index=None if math.isinf(end) else first_step(end, rate),
            latest_seconds=self._media.latest_seconds,
            aspect=aspect,
            convert=None if device is None else DeviceFrames(side, aspect, device, codec).convert,
        )
        self._feeds.setdefault(name, []).append(self._frames)

    def _prepare_listening(self, name: str, stream: VisionStream, rate: int, start: float, end: float) -> None:
        """Have a stream that watches hear the same clip."""
        if self._media.info.audio is None or not self._media.info.audio.codec:
            stream.no_more_sound()
            return
        first = reached = math.floor(start * rate)

        def listen(samples: NDArray[np.float32]) -> None:
            nonlocal reached
            stream.listen(samples, reached)
            reached += len(samples)

        self._add_track(name, rate, listen, first, end, min(_LISTEN_SECONDS, self.block_seconds))

    def _decode(self) -> float:
        """Run the decode pass, after which `_notes` has what is to be said of it; returns where the clip ends."""
        if self._audio is None and self._frames is None:
            return min(self._end, self._media.measure_seconds())
        report = self._media.decode(
            self._audio,
            self._frames,
            start_seconds=self._read_from,
            pictures_from=None if self._frames is None else self._frames.first_seconds,
        )
        for name, extractor in self._extractors.items():
            feed = self._audio if isinstance(extractor, AudioExtractor) else self._frames
            if name in self._streams and feed is not None and not (feed.frames or feed.done):
                self._missing[name] = f"the {_KIND[feed.__class__]} stream could not be decoded"
        feeds = [feed for feed in (self._audio, self._frames) if feed is not None]
        if not any(feed.frames or feed.done for feed in feeds):  # a clip may be too short to want a single frame
            raise MediaError(
                f"{self._media.path}: opened, but nothing in it could be decoded ({report.decode_errors} broken packets"
                f"{', ' + report.broke_off if report.broke_off else ''}); allowed are complete media files: if it was "
                "cut off while being copied or recorded, get it again"
            )
        if report.complete and report.end_seconds <= self._start:
            raise MediaError(
                f"{self._media.path}: the clip starts at {self._start:g} s, but the media ends at "
                f"{report.end_seconds:.2f} s: check the segment's times, or whether the file was cut off"
            )
        self._note(report)
        return min(self._end, report.end_seconds)

    def _note(self, report: DecodeReport) -> None:
        self._fallback = report.fallback
        for name, feeds in self._feeds.items():
            told = (note for feed in feeds for note in reading_notes(feed, self._media.info, report, self._end))
            if own := list(dict.fromkeys(told)):
                self._notes[name] = own

    def _told(self) -> tuple[str, ...]:
        """All notes, each once."""
        own = [f"frames were decoded on the CPU: {self._fallback}"] if self._fallback else []
        return tuple(dict.fromkeys([*own, *(note for notes in self._notes.values() for note in notes)]))

    def _finish(self, name: str, transcript: Transcript, end: float) -> FeatureSequence:
        extractor = self._extractors[name]
        if isinstance(extractor, TextExtractor):
            sequence = extractor.extract_text(transcript, self._start, end)
            if not len(sequence):
                self._missing[name] = no_words(transcript)
            return sequence
        stream = self._streams.get(name)
        if stream is None:
            return extractor.empty()
        found = sequence = stream.finish()
        if self._is_part:
            sequence = found.between(self._start, self._end)
        if not len(sequence):
            around = f"nothing found from {self._start:g} s to {self._end:g} s, but before or after"
            self._missing.setdefault(name, around if len(found) else stream.missing_reason())
        if isinstance(stream, VisionStream) and (told := stream.notes(self._start, self._end)):
            self._notes.setdefault(name, []).extend(told)
        return sequence


_KIND: dict[type, str] = {AudioTracks: "audio", FrameSampler: "video"}


def _of_images(paths: Sequence[Path], extractors: Mapping[str, Extractor], transcript: Transcript) -> Extraction:
    sequences, missing, notes = {}, {}, dict[str, tuple[str, ...]]()
    for name, extractor in extractors.items():
        if isinstance(extractor, VisionExtractor):
            looked = look_at(paths, extractor)
            sequences[name], reason = looked.sequence, looked.reason
            if looked.notes:
                notes[name] = looked.notes
        elif isinstance(extractor, TextExtractor):
            sequences[name], reason = extractor.extract_text(transcript), no_words(transcript)
        else:
            sequences[name], reason = extractor.empty(), "a still image has no sound"
        if not len(sequences[name]):
            missing[name] = reason
    told = tuple(note for own in notes.values() for note in own)
    return Extraction(sequences, missing, 0.0, told, notes_by_modality=notes)


def _without_media(
    extractors: Mapping[str, Extractor], transcript: Transcript, start: float, end: float | None
) -> Extraction:
    sequences, missing = {}, {}
    for name, extractor in extractors.items():
        if isinstance(extractor, TextExtractor):
            sequences[name] = extractor.extract_text(transcript, start, end)
            if not len(sequences[name]):
                missing[name] = no_words(transcript)
        else:
            sequences[name], missing[name] = extractor.empty(), "no media file"
    last = max((float(s.times[-1, 1]) for s in sequences.values() if len(s)), default=start)
    return Extraction(sequences, missing, (last if end is None else end) - start)


def no_words(transcript: Transcript) -> str:
    """Why the text of a clip is missing."""
    return "no words in this part of the transcript" if transcript else "no transcript"


def _checked_span(start: float | None, end: float | None) -> tuple[float, float]:
    first, last = 0.0 if start is None else float(start), math.inf if end is None else float(end)
    if not 0.0 <= first < last:
        raise ValueError(f"a clip needs 0 <= start_seconds < end_seconds, not {start} to {end}")
    return first, last


def check_modalities(extractors: Mapping[str, Extractor]) -> None:
    """Refuse what is no extractor, and two for one stream of the file.

    Raises:
        ValueError: either.
    """
    if not extractors:
        raise ValueError("no extractor given: pass a mapping such as {'audio': extractors.build('speech.librosa')}")
    kinds = (AudioExtractor, VisionExtractor)
    for name, extractor in extractors.items():
        if not isinstance(extractor, Extractor):
            raise ValueError(f"{name!r} must be an extractor, not {type(extractor).__name__}: see extractors.build")
    for kind in kinds:
        several = [name for name, extractor in extractors.items() if isinstance(extractor, kind)]
        if len(several) > 1:
            raise ValueError(
                f"one {kind.modality} extractor per call, not {len(several)} ({', '.join(several)}): "
                "call extract once for each"
            )
