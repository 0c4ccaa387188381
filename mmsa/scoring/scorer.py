"""`Scorer`: a bundle and a media file in, sentiment and emotion out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsa.bundle import Bundle, load_bundle
from mmsa.errors import UsageError, unknown
from mmsa.languages import mismatches
from mmsa.scoring.parts import Ending, Part, Stretch, read_parts
from mmsa.scoring.results import Score, WindowScore
from mmsa.scoring.smoothing import default_width, smooth
from mmsa.scoring.summary import summarise
from mmsa.scoring.timeline import Timeline
from mmsa.sidecars import read_sidecar
from mmsa.tracking import find_bundle
from mmsa.words import KeptModel, WordOptions, WordSource, word_source

if TYPE_CHECKING:
    from extractors import Extractor, Transcript, Window
    from mmsa.scoring.ensemble import Ensemble
    from mmsa.scoring.predictor import Predicts

PRETRAINED = "pretrained"
"""Names published classifiers in the place of a run."""

DEVICES = ("auto", "cpu", "cuda")
"""Where frames may be decoded and extractors compute."""

Progress = Callable[[float, float | None], None]
"""Called with the seconds of a file that are scored, and how many it announces."""


class Scorer:
    """A trained model with the extractors it was trained on.

    Args:
        bundle: what training left.
        trust_extractors: import extractors that the bundle names by dotted path. They are code, and a bundle from
            someone else may name any module that lies on the import path.
        device: of torch, where the fusion model computes.
        media_device: where frames are decoded, and extractors compute that can be put somewhere: `"auto"`, `"cpu"` or
            `"cuda"`.
        words: what is done for files without a transcript, and for transcripts without times; what it leaves out is
            done as for the corpus that the model was trained on.

    Raises:
        UsageError: an extractor of the bundle cannot be built here, or is not trusted, or the model was trained on
            features that came ready-made.
    """

    predictor: Predicts
    media_device: str
    extractors: Mapping[str, Extractor]

    def __init__(
        self,
        bundle: Bundle,
        *,
        trust_extractors: bool = False,
        device: str = "cpu",
        media_device: str = "auto",
        words: WordOptions | None = None,
    ) -> None:
        import extractors as ex
        from extractors.registry import placement
        from mmsa.precomputed import refuse_precomputed
        from mmsa.scoring.predictor import Predictor

        refuse_precomputed(bundle.extractors)
        foreign = sorted({spec.name for spec in bundle.extractors.values()} - set(ex.available()))
        if foreign and not trust_extractors:
            raise UsageError(
                f"this model uses {', '.join(foreign)}, code that is not part of mmsa: if you trust whoever made the "
                "model, pass --trust-extractors (trust_extractors=True)"
            )
        self.bundle, self.media_device = bundle, media_device
        self.words = _words_of(bundle, words or WordOptions())
        self.predictor = Predictor(bundle, device=device)
        try:
            self.extractors = {
                key: ex.rebuild(spec, **placement(spec.name, media_device)) for key, spec in bundle.extractors.items()
            }
        except (ValueError, OSError, ImportError, ex.ToolError) as error:
            raise UsageError(f"an extractor of this model cannot be built here: {error}") from error

    @cached_property
    def model(self) -> dict[str, str]:
        """Which model it is: digest of all that its numbers depend on, corpus, note and state of calibration."""
        bundle, fitted = self.bundle, self.bundle.calibration
        about = {"digest": model_digest(bundle), "corpus": bundle.corpus, "note": bundle.note}
        if fitted is None:
            return about | {"calibration": "none: trained before mmsa calibrated; train again for honest probabilities"}
        clips = max(fitted.clips.values(), default=0)
        return about | {"calibration": f"fitted on {clips} validation clips; intervals at {fitted.level:.0%}"}

    @property
    def clip_seconds(self) -> tuple[float, float, float] | None:
        """How long the clips were that the model was trained on: short, usual and long ones; None where unknown."""
        return self.bundle.clip_seconds

    def score(
        self,
        path: Path | str,
        *,
        text: str | None = None,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
        segments: str | None = None,
        smooth_seconds: float | None = None,
        progress: Progress | None = None,
    ) -> Score:
        """Score one media file: as a single clip, or along time.

        Args:
            path: anything FFmpeg reads, or a still image.
            text: what is said; None looks for a sidecar `.srt`, `.vtt`, `.ass` or `.txt` beside the file.
            start_seconds: score only what comes after; None is the beginning. Not with windows or segments.
            end_seconds: score only what comes before; None is the end.
            window_seconds: cut the file into windows of this length.
            hop_seconds: from one window's start to the next; None is half a window.
            segments: cut it at `"subtitles"`, at phrases of `"speech"` or at turns of `"speakers"` instead.
            smooth_seconds: width of the smoothing (see `mmsa.scoring.smoothing`).
            progress: called as windows are finished.

        Raises:
            extractors.MediaError: the file cannot be read.
            UsageError: its sidecar cannot be read, the file has none of the model's modalities, or options exclude each
                other.

        Example:
            >>> scorer = mmsa.load_scorer("latest")  # doctest: +SKIP
            >>> scorer.score("talk.mp4", window_seconds=10, hop_seconds=5).to_frame()  # doctest: +SKIP
        """
        timeline = Timeline(window_seconds, hop_seconds, segments, smooth_seconds)
        return self.score_clip(path, timeline, text=text, span=(start_seconds, end_seconds), progress=progress)

    def score_clip(
        self,
        path: Path | str,
        timeline: Timeline,
        *,
        text: str | None = None,
        span: tuple[float | None, float | None] = (None, None),
        progress: Progress | None = None,
    ) -> Score:
        """The same with a `Timeline`; see `score`."""
        windows: list[WindowScore] = []
        ending = Ending(None)
        for part in self.read(path, timeline, text=text, span=span):
            if isinstance(part, Ending):
                ending = part
                continue
            windows += self.predictor.windows(part)
            if progress is not None and not timeline.whole:
                progress(windows[-1].end_seconds, part.announced_seconds)
        return self.join(path, timeline, windows, ending, span=span)

    def read(
        self,
        path: Path | str,
        timeline: Timeline,
        *,
        text: str | None = None,
        span: tuple[float | None, float | None] = (None, None),
    ) -> Iterator[Part | Ending]:
        """The first half of `score_clip`: the file's features in parts of bounded size, see `mmsa.scoring.parts`."""
        import extractors as ex

        path = Path(path)
        if not timeline.whole and span != (None, None):
            raise UsageError("a segment is scored whole: leave out its start and end, or window_seconds and segments")
        transcript = ex.Transcript.of(text) if text is not None else read_sidecar(path)
        return self._parts(path, transcript, timeline, span)

    def _parts(
        self, path: Path, transcript: Transcript, timeline: Timeline, span: tuple[float | None, float | None]
    ) -> Iterator[Part | Ending]:
        """Words are looked for when the first part is asked for, since that may take long."""
        from extractors.image_post import find_still_images

        told: tuple[str, ...] = ()
        if not find_still_images(path):
            transcript, told = self.words.find(path, transcript, span)
        told = (*told, *(mismatches(self.extractors, transcript.language) if transcript else ()))
        for part in read_parts(path, self.extractors, transcript, timeline, span, self.media_device):
            yield replace(part, notes=(*part.notes, *told)) if isinstance(part, Ending) else part

    def join(
        self,
        path: Path | str,
        timeline: Timeline,
        windows: list[WindowScore],
        ending: Ending,
        *,
        span: tuple[float | None, float | None] = (None, None),
    ) -> Score:
        """The last step of `score_clip`: all windows of a file, in order, smoothed and summarised.

        Raises:
            UsageError: none of them has any of the model's modalities.
        """
        if not any(window.scores for window in windows):
            raise _nothing(path, windows)
        still = ["a still image has no time: it is scored as a whole"] if ending.still and not timeline.whole else []
        width = timeline.smooth_seconds
        windows = smooth(windows, (default_width(windows) if width is None else width) if len(windows) > 1 else 0.0)
        return Score(
            str(path),
            start_seconds=span[0],
            end_seconds=span[1],
            duration_seconds=ending.duration_seconds,
            windows=tuple(windows),
            summary=summarise(windows),
            notes=(*ending.notes, *still, *(() if ending.still else self._length_notes(windows))),
            model=self.model,
            options=self.options(timeline),
        )

    def options(self, timeline: Timeline) -> dict[str, Any]:
        """What the numbers depend on beside the file and the model, as plain JSON values."""
        return {**timeline.to_dict(), **self.words.identity}

    def score_many(self, paths: Iterable[Path | str], *, text: str | None = None) -> Iterator[Score]:
        """Score files one after the other, each as one clip; one that fails becomes a `Score` with its `error`."""
        import extractors as ex

        for path in paths:
            try:
                yield self.score(path, text=text)
            except (ex.MediaError, UsageError) as error:
                yield Score(str(path), error=str(error), model=self.model, options=self.options(Timeline()))

    def score_window(self, window: Window) -> WindowScore:
        """Score one window that is extracted already, by this model's extractors and without a transcript."""
        stretch = Stretch(window.number, window.start_seconds, window.end_seconds, window.extraction)
        return next(self.predictor.windows(Part((stretch,))))

    def _length_notes(self, windows: list[WindowScore]) -> list[str]:
        """Whether what is scored is much longer or shorter than what the model was trained on."""
        if self.clip_seconds is None or not windows:
            return []
        low, _, high = self.clip_seconds
        length = 2 * default_width(windows)
        if low <= length <= high:
            return []
        which = "longer" if length > high else "shorter"
        what = "windows" if len(windows) > 1 else "a clip"
        return [
            f"{what} of {length:.3g} s: {which} than most clips the model was trained on ({low:.3g} to {high:.3g} s)"
        ]


def _words_of(bundle: Bundle, given: WordOptions) -> WordSource:
    """What finds words: what is given, and else what the model was trained with."""
    try:
        return word_source(given.over(bundle.words))
    except UsageError as error:
        own = [key for key in bundle.words.models if getattr(given, key) is None]
        if not own:
            raise
        told = " and ".join(f"--{key} none" for key in own)
        raise UsageError(f"{error}. This model was trained on words that were made so; {told} goes without") from error


def model_digest(bundle: Bundle) -> str:
    """32 hexadecimal digits of all that a bundle's numbers depend on."""
    import json

    seen = hashlib.sha256()
    about = {
        "model": bundle.model.config.identity(),
        "tasks": [task.to_dict() for task in bundle.tasks],
        "extractors": {key: spec.fingerprint for key, spec in bundle.extractors.items()},
        "baseline": bundle.baseline,
        "calibration": None if bundle.calibration is None else bundle.calibration.to_dict(),
    }
    seen.update(json.dumps(about, sort_keys=True).encode())
    for key, value in sorted(bundle.model.state_dict().items()):
        seen.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return seen.hexdigest()[:32]


def _nothing(path: Path | str, windows: Iterable[WindowScore]) -> UsageError:
    told: dict[str, set[str]] = {}
    for window in windows:
        for key, reason in window.missing.items():
            told.setdefault(key, set()).add(reason)
    reasons = "; ".join(f"{key}: {', '.join(sorted(found))}" for key, found in sorted(told.items()))
    return UsageError(f"nothing to score in {path} ({reasons})")


def load_scorer(
    run: str | Path | Ensemble,
    *,
    trust_extractors: bool = False,
    transcribe: str | KeptModel | None = None,
    language: str | None = None,
    align: str | KeptModel | None = None,
    save_transcripts: Path | None = None,
    device: str = "auto",
) -> Scorer:
    """A scorer from a run, or from published classifiers.

    Args:
        run: an MLflow run id, a registered model (`name`, `name:version`, `name@alias` or `models:/name/version`), a
            bundle folder, or `"latest"`; `"pretrained"` for the published classifiers that `mmsa` names, or an
            `Ensemble` of others.
        trust_extractors: see `Scorer`.
        transcribe: a Whisper for files without a transcript; see `mmsa.words.WordOptions`. None is the one that the
            model was trained with, if any; `"none"` is no one.
        language: what is spoken.
        align: a CTC model for transcripts without times; as `transcribe`.
        save_transcripts: a folder for the transcripts that these make.
        device: where frames are decoded, and extractors compute that can be put somewhere: `"auto"`, `"cpu"` or
            `"cuda"`. The fusion model, which is small, computes on the CPU.

    Raises:
        UsageError: there is no such run, its bundle cannot be used here, or `"cuda"` is asked for and not there.
    """
    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    if device == "cuda":
        from mmsa.workshop import choose_device

        choose_device(device)
    words = WordOptions(transcribe, language, align, save_transcripts)
    if run == PRETRAINED or not isinstance(run, str | Path):
        from mmsa.scoring.pretrained import PretrainedScorer

        return PretrainedScorer(None if isinstance(run, str | Path) else run, words=words, media_device=device)
    bundle = load_bundle(find_bundle(str(run)))
    return Scorer(bundle, trust_extractors=trust_extractors, words=words, media_device=device)
