"""One talking-head video: H.264 and AAC in MP4, written under its final name only when it is complete."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from mmsa.demo.face import FRAME_PIXELS, FacePainter, FaceState
from mmsa.demo.motion import FRAME_RATE, face_track
from mmsa.demo.phones import TimedPhone, time_phones
from mmsa.demo.script import PROTOTYPES, ClipScript, Expression, clip_rng, write_transcript
from mmsa.demo.speakers import SPEAKERS, Speaker, speaker_named
from mmsa.demo.voice import SAMPLE_RATE, VoiceStyle, speak, voice_style

_LEAD_SECONDS = 0.2
_TAIL_SECONDS = 0.25
_PAUSE_SECONDS = 0.3
_SHORTEST_SPEECH_SECONDS = 0.3
_SAMPLES_PER_FRAME = SAMPLE_RATE // FRAME_RATE


@dataclass(frozen=True)
class Rendering:
    """What a video shows and says, before the encoders.

    Attributes:
        transcript: the words; "" where nobody speaks.
        expression: what words, voice and face express.
        phones: the speech sounds on the time line.
        style: how the voice speaks.
        states: the face per frame, at 25 frames a second.
        samples: the sound, (n,) float32 at 16 kHz.
    """

    transcript: str
    expression: Expression
    phones: tuple[TimedPhone, ...]
    style: VoiceStyle
    states: tuple[FaceState, ...]
    samples: NDArray[np.float32]

    @property
    def seconds(self) -> float:
        """The video's duration."""
        return len(self.states) / FRAME_RATE


@lru_cache(maxsize=2)
def _painter(speaker: Speaker) -> FacePainter:
    return FacePainter(speaker)


def _talk(
    expression: Expression, style: VoiceStyle, seconds: float, rng: np.random.Generator
) -> tuple[str, tuple[TimedPhone, ...]]:
    """As many sentences as fit into `seconds`, the last one hurried a little; the first one as much as it must be."""
    sentences: list[str] = []
    phones: tuple[TimedPhone, ...] = ()
    now, end = _LEAD_SECONDS, seconds - _TAIL_SECONDS
    while end - now > _SHORTEST_SPEECH_SECONDS:
        sentence = write_transcript(expression, rng)
        natural = time_phones(sentence, style.rate, now, (0.0, float("inf")))
        room = end - now
        if sentences and natural[-1].end_seconds - now > 1.25 * room:
            break
        phones += time_phones(sentence, style.rate, now, (0.0, room))
        sentences.append(sentence)
        now = phones[-1].end_seconds + _PAUSE_SECONDS
    return " ".join(sentences), phones


def _plan(
    speaker: Speaker,
    expression: Expression,
    transcript: str,
    phones: tuple[TimedPhone, ...],
    n_frames: int,
    rng: np.random.Generator,
) -> Rendering:
    style = voice_style(speaker.voice, expression.voice, expression.arousal)
    states = face_track(phones, expression, n_frames, rng)
    samples = speak(phones, style, n_frames / FRAME_RATE, rng)
    return Rendering(transcript, expression, phones, style, states, samples)


def plan_clip(clip: ClipScript, seed: int) -> Rendering:
    """Everything about a clip but its pixels: 2 to 4 s, from the seed and the clip's id alone."""
    rng = clip_rng(seed, clip.id, "render")
    style = voice_style(clip.speaker.voice, clip.expression.voice, clip.expression.arousal)
    phones = time_phones(clip.transcript, style.rate, _LEAD_SECONDS, (1.55, 3.5))
    end = phones[-1].end_seconds + _TAIL_SECONDS
    n_frames = int(np.clip(np.ceil(end * FRAME_RATE), 2 * FRAME_RATE, 4 * FRAME_RATE))
    return _plan(clip.speaker, clip.expression, clip.transcript, phones, n_frames, rng)


def _encode(path: Path, rendering: Rendering, painter: FacePainter, with_audio: bool, with_face: bool) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FRAME_RATE)
        video.width = video.height = FRAME_PIXELS
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        video.options = {"preset": "veryfast", "crf": "21"}
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono", bit_rate=64_000) if with_audio else None
        empty = None if with_face else painter.paint_empty()
        for number, state in enumerate(rendering.states):
            picture = painter.paint(state) if empty is None else empty
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
            if audio is not None:
                start = number * _SAMPLES_PER_FRAME
                piece = rendering.samples[None, start : start + _SAMPLES_PER_FRAME]
                sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="fltp", layout="mono")
                sound.sample_rate, sound.pts = SAMPLE_RATE, start
                container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        if audio is not None:
            container.mux(audio.encode(None))


def _write(path: Path, rendering: Rendering, speaker: Speaker, with_audio: bool = True, with_face: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.part")
    try:
        _encode(partial, rendering, _painter(speaker), with_audio, with_face)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def render_clip(path: Path, clip: ClipScript, seed: int) -> Rendering:
    """Render one clip of the corpus into `path` (MP4); the same clip and seed give the same frames and samples."""
    rendering = plan_clip(clip, seed)
    _write(path, rendering, clip.speaker)
    return rendering


def render_video(
    path: str | os.PathLike[str],
    *,
    speaker: Speaker | str = SPEAKERS[0],
    emotion: str | Expression = "neutral",
    transcript: str | None = None,
    seconds: float = 3.0,
    with_audio: bool = True,
    with_face: bool = True,
    seed: int = 0,
) -> Rendering:
    """Render a video of one's own making.

    Args:
        path: the MP4 file to write; its folder is created.
        speaker: a member of the cast, or an id such as `"s03"`.
        emotion: one of MELD's seven (a congruent, clear expression of it), or an exact expression.
        transcript: what is said, once; None is as many made-up sentences as fit; "" is silence with closed lips.
        seconds: duration, rounded to whole frames of 1/25 s.
        with_audio: False leaves out the sound stream.
        with_face: False shows only the wall.
        seed: a non-negative integer.

    Returns:
        What was rendered, for comparison with what is measured.

    Raises:
        ValueError: unknown speaker or emotion, less than one frame, or a transcript that does not fit.
    """
    who = speaker_named(speaker) if isinstance(speaker, str) else speaker
    if isinstance(emotion, str) and emotion not in PROTOTYPES:
        raise ValueError(f"emotion must be one of {', '.join(PROTOTYPES)} or an Expression, not {emotion!r}")
    expression = PROTOTYPES[emotion] if isinstance(emotion, str) else emotion
    n_frames = round(seconds * FRAME_RATE)
    if n_frames < 1:
        raise ValueError(f"seconds must be at least one frame, {1 / FRAME_RATE}, not {seconds}")
    rng = clip_rng(seed, who.id, "video")
    style = voice_style(who.voice, expression.voice, expression.arousal)
    phones: tuple[TimedPhone, ...] = ()
    if transcript is None:
        transcript, phones = _talk(expression, style, seconds, rng)
    elif transcript:
        phones = time_phones(transcript, style.rate, _LEAD_SECONDS, (0.0, float("inf")))
        end = phones[-1].end_seconds
        if end > seconds:
            raise ValueError(
                f"the transcript takes {end:.2f} s, the video {seconds} s: give seconds={end + 0.01:.2f} or more"
            )
    rendering = _plan(who, expression, transcript, phones, n_frames, rng)
    _write(Path(path), rendering, who, with_audio, with_face)
    return rendering
