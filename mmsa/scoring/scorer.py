"""`Scorer`: a bundle and a media file in, sentiment and emotion out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extractors.transcript import TRANSCRIPT_SUFFIXES
from mmsa.bundle import Bundle, load_bundle
from mmsa.errors import UsageError
from mmsa.languages import mismatches
from mmsa.scoring.results import Score, WindowScore
from mmsa.scoring.smoothing import default_width, smooth
from mmsa.scoring.summary import summarise
from mmsa.scoring.timeline import Timeline, Turn, find_turns, sliding
from mmsa.tracking import find_bundle
from mmsa.words import WordOptions, word_source

if TYPE_CHECKING:
    from extractors import Extraction, Transcript, Window

SIDECARS = TRANSCRIPT_SUFFIXES

Progress = Callable[[float, float | None], None]
"""Called with the seconds of a file that are scored, and how many it announces."""


class Scorer:
    """A trained model with the extractors it was trained on.

    Args:
        bundle: what training left.
        trust_extractors: import extractors that the bundle names by dotted path. They are code, and a bundle from
            someone else may name any module that lies on the import path.
        words: what is done for files without a transcript, and for transcripts without times.

    Raises:
        UsageError: an extractor of the bundle cannot be built here, or is not trusted, or the model was trained on
            features that came ready-made.
    """

    def __init__(self, bundle: Bundle, *, trust_extractors: bool = False, words: WordOptions | None = None) -> None:
        import extractors as ex
        from mmsa.precomputed import refuse_precomputed
        from mmsa.scoring.predictor import TOGETHER, Predictor

        refuse_precomputed(bundle.extractors)
        foreign = sorted({spec.name for spec in bundle.extractors.values()} - set(ex.available()))
        if foreign and not trust_extractors:
            raise UsageError(
                f"this model uses {', '.join(foreign)}, code that is not part of mmsa: if you trust whoever made the "
                "model, pass --trust-extractors (trust_extractors=True)"
            )
        self.bundle = bundle
        self.words = word_source(words or WordOptions())
        self._predictor, self._together = Predictor(bundle), TOGETHER
        try:
            self.extractors = {key: ex.rebuild(spec) for key, spec in bundle.extractors.items()}
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
        import extractors as ex
        from extractors.image_post import find_still_images

        path = Path(path)
        if not timeline.whole and span != (None, None):
            raise UsageError("a segment is scored whole: leave out its start and end, or window_seconds and segments")
        transcript = ex.Transcript.of(text) if text is not None else read_sidecar(path)
        image = bool(find_still_images(path))
        transcript, told = (transcript, ()) if image else self.words.find(path, transcript, span)
        told = (*told, *(mismatches(self.extractors, transcript.language) if transcript else ()))
        if timeline.whole or image:
            notes = ["a still image has no time: it is scored as a whole"] if image and not timeline.whole else []
            found = self._whole(path, transcript, span)
        else:
            notes, found = [], self._along(path, transcript, timeline, progress)
        windows = list(found.windows)
        width = timeline.smooth_seconds
        windows = smooth(windows, (default_width(windows) if width is None else width) if len(windows) > 1 else 0.0)
        return replace(
            found,
            start_seconds=span[0],
            end_seconds=span[1],
            windows=tuple(windows),
            summary=summarise(windows),
            notes=(*found.notes, *told, *notes, *(() if image else self._length_notes(windows))),
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

    def _whole(self, path: Path, transcript: Transcript, span: tuple[float | None, float | None]) -> Score:
        import extractors as ex

        found = ex.extract(path, self.extractors, transcript=transcript, start_seconds=span[0], end_seconds=span[1])
        prediction = self._predictor.predict([found])[0]
        if not prediction.scores:
            raise _nothing(path, {key: {reason} for key, reason in found.missing.items()})
        start = span[0] or 0.0
        window = WindowScore(
            number=0,
            start_seconds=start,
            end_seconds=start + found.duration_seconds,
            scores=prediction.scores,
            modalities=prediction.modalities,
            text=transcript.said(start, span[1]) or None,
        )
        return Score(str(path), duration_seconds=found.duration_seconds, windows=(window,), notes=tuple(found.notes))

    def _along(self, path: Path, transcript: Transcript, timeline: Timeline, progress: Progress | None) -> Score:
        import extractors as ex

        timed = ex.Transcript(tuple(one for one in transcript.segments if one.start_seconds is not None))
        turns = find_turns(transcript, timeline.segments) if timeline.segments is not None else None
        spans = sliding(timeline) if turns is None else [(turn.start_seconds, turn.end_seconds) for turn in turns]
        reader = ex.extract_windows(path, self.extractors, spans, transcript=timed)
        reasons = {}
        if transcript and not timed:  # every window would read all of it
            texts = [key for key, extractor in self.extractors.items() if isinstance(extractor, ex.TextExtractor)]
            reasons = dict.fromkeys(texts, "the transcript has no times")
        windows: list[WindowScore] = []
        source = iter(reader)
        while batch := list(islice(source, self._together)):
            windows += self._windows(batch, timed, turns, reasons)
            if progress is not None:
                progress(windows[-1].end_seconds, reader.announced_seconds)
        if not any(window.scores for window in windows):
            told: dict[str, set[str]] = {}
            for window in windows:
                for key, reason in window.missing.items():
                    told.setdefault(key, set()).add(reason)
            raise _nothing(path, told)
        return Score(
            str(path), duration_seconds=reader.duration_seconds, windows=tuple(windows), notes=tuple(reader.notes)
        )

    def _windows(
        self, batch: list[Window], transcript: Transcript, turns: list[Turn] | None, reasons: Mapping[str, str]
    ) -> Iterator[WindowScore]:
        found = [_with_reasons(window.extraction, reasons) for window in batch]
        for window, prediction in zip(batch, self._predictor.predict(found), strict=True):
            yield WindowScore(
                number=window.number,
                start_seconds=window.start_seconds,
                end_seconds=window.end_seconds,
                scores=prediction.scores,
                modalities=prediction.modalities,
                text=transcript.said(window.start_seconds, window.end_seconds) or None,
                speaker=None if turns is None else turns[window.number].speaker,
                notes=tuple(window.extraction.notes),
            )

    def _length_notes(self, windows: list[WindowScore]) -> list[str]:
        """Whether what is scored is much longer or shorter than what the model was trained on."""
        if self.bundle.clip_seconds is None or not windows:
            return []
        low, _, high = self.bundle.clip_seconds
        length = 2 * default_width(windows)
        if low <= length <= high:
            return []
        which = "longer" if length > high else "shorter"
        what = "windows" if len(windows) > 1 else "a clip"
        return [
            f"{what} of {length:.3g} s: {which} than most clips the model was trained on ({low:.3g} to {high:.3g} s)"
        ]


def model_digest(bundle: Bundle) -> str:
    """32 hexadecimal digits of all that a bundle's numbers depend on."""
    import json

    seen = hashlib.sha256()
    about = {
        "model": vars(bundle.model.config),
        "tasks": [task.to_dict() for task in bundle.tasks],
        "extractors": {key: spec.fingerprint for key, spec in bundle.extractors.items()},
        "baseline": bundle.baseline,
        "calibration": None if bundle.calibration is None else bundle.calibration.to_dict(),
    }
    seen.update(json.dumps(about, sort_keys=True).encode())
    for key, value in sorted(bundle.model.state_dict().items()):
        seen.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return seen.hexdigest()[:32]


def read_sidecar(path: Path) -> Transcript:
    """The transcript that lies beside a media file; an empty one where there is none.

    Raises:
        UsageError: it cannot be read.
    """
    import extractors as ex

    beside = find_sidecar(path)
    if beside is None:
        return ex.Transcript()
    try:
        return ex.read_transcript(beside)
    except (ValueError, OSError) as error:
        raise UsageError(f"the transcript beside {path.name} cannot be read: {error}") from error


def find_sidecar(path: Path) -> Path | None:
    """The first of `SIDECARS` that lies beside a media file."""
    for suffix in SIDECARS:
        beside = path.with_suffix(suffix)
        if beside.is_file() and beside != path:
            return beside
    return None


def _with_reasons(found: Extraction, reasons: Mapping[str, str]) -> Extraction:
    better = {key: reason for key, reason in reasons.items() if key in found.missing}
    return replace(found, missing={**found.missing, **better}) if better else found


def _nothing(path: Path, missing: Mapping[str, set[str]]) -> UsageError:
    reasons = "; ".join(f"{key}: {', '.join(sorted(told))}" for key, told in sorted(missing.items()))
    return UsageError(f"nothing to score in {path} ({reasons})")


def load_scorer(
    run: str | Path,
    *,
    trust_extractors: bool = False,
    transcribe: str | None = None,
    language: str | None = None,
    align: str | None = None,
) -> Scorer:
    """A scorer from a run.

    Args:
        run: an MLflow run id, a registered model (`name`, `name:version`, `name@alias` or `models:/name/version`), a
            bundle folder, or `"latest"`.
        trust_extractors: see `Scorer`.
        transcribe: a Whisper for files without a transcript; see `mmsa.words.WordOptions`.
        language: what is spoken.
        align: a CTC model for transcripts without times.

    Raises:
        UsageError: there is no such run, or its bundle cannot be used here.
    """
    words = WordOptions(transcribe, language, align)
    return Scorer(load_bundle(find_bundle(str(run))), trust_extractors=trust_extractors, words=words)
