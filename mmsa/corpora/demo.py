"""The `demo` corpus: drawn people who talk, rendered on this computer at first use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmsa.corpora.clip import Clip, Corpus
from mmsa.demo import cache
from mmsa.demo.script import ClipScript, write_script
from mmsa.paths import cache_dir
from mmsa.progress import track
from mmsa.tasks import MELD_EMOTIONS, Classification, Regression

TASKS = (Regression("sentiment", -3.0, 3.0, metrics="mosi"), Classification("emotion", MELD_EMOTIONS))
NOTE = (
    "The demo corpus is rendered: drawn faces, a synthetic voice and made-up sentences. Figures on it prove that the "
    "path from video to score works; they are never results about people."
)


def _to_clip(script: ClipScript, folder: Path) -> Clip:
    said = script.expression
    return Clip(
        id=script.id,
        split=script.split,
        labels={"sentiment": round(said.sentiment, 4), "emotion": said.emotion},
        media=cache.clip_path(folder, script),
        transcript=script.transcript,
        speaker=script.speaker.id,
        attributes={
            "text_valence": str(said.text),
            "voice_valence": str(said.voice),
            "face_valence": str(said.face),
            "voice_arousal": str(said.arousal),
            "face_brow": str(said.brow),
            "congruent": "yes" if said.congruent else "no",
        },
    )


def _render(folder: Path, clips: Sequence[ClipScript], seed: int, per_speaker: int | None, progress: bool) -> None:
    count, rendering = cache.render_missing(folder, clips, seed=seed, clips_per_speaker=per_speaker)
    watched = track(rendering, "Rendering the demo corpus", count) if progress and count else rendering
    for _ in watched:
        pass


def load_demo(
    seed: int = 0, root: Path | None = None, clips_per_speaker: int | None = None, progress: bool = True
) -> Corpus:
    """The demo corpus; its videos are rendered where they are not yet.

    `mmsa.demo.script` says how the labels come about. Each clip's attributes hold what each modality expresses
    (`text_valence`, `voice_valence`, `face_valence`, `voice_arousal`, `face_brow`, numbers as text) and whether two of
    them contradict each other (`congruent`, "yes" or "no").

    Args:
        seed: which corpus; the cast and its split stay the same.
        root: folder to keep the videos under; None is `demo` in the user's cache folder (see `mmsa.paths`).
        clips_per_speaker: None is 16, that is 320 clips.
        progress: show a bar on standard error while rendering.

    Raises:
        ValueError: a negative seed, or fewer than one clip per speaker.
        RuntimeError: rendering failed.
    """
    script = write_script(seed, clips_per_speaker)
    folder = cache.clip_folder(cache_dir() / "demo" if root is None else Path(root), seed)
    _render(folder, script, seed, clips_per_speaker, progress)
    return Corpus("demo", tuple(_to_clip(clip, folder) for clip in script), TASKS, NOTE)
