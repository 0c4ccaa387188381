"""Features out of the splits of a feature pickle: padding told from data, and one table per modality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsa.corpora.imported import ModalityReport
from mmsa.corpora.padding import Side, Spans, detect_side, find_spans
from mmsa.corpora.pickle_parts import Array, Part
from mmsa.precomputed import precomputed_spec, write_precomputed

FITS = 0.9
"""The text's mask tells how long aligned audio and vision are where at least this share of clips has no data beyond."""


def write_modality(
    folder: Path, path: Path, digest: str, key: str, parts: Sequence[Part], padding: Side | None
) -> ModalityReport:
    """Write one modality of all splits as a table of ready-made features.

    Args:
        folder: where.
        path: the pickle that the features came in.
        digest: of its content.
        key: the modality.
        parts: the splits; all have it.
        padding: the side of the padding; None finds out.
    """
    width = int(parts[0].features[key][0].shape[1])
    used = [_used(part.features[key]) for part in parts]
    sources = {_source(part, key, own) for part, own in zip(parts, used, strict=True)}
    source = sources.pop() if len(sources) == 1 else "zeros"
    if source == "text_bert" and key == "text":  # BERT's states of padding are not zeros: only the mask tells
        used, padding = [part.mask for part in parts], None
    lengths = [_lengths(part, key, source) for part in parts]
    told = (detect_side(u, n) for u, n in zip(used, lengths, strict=True) if u is not None)
    side = padding or next((found for found in told if found is not None), None)
    spans = [_spans(part, key, own, n, side) for part, own, n in zip(parts, used, lengths, strict=True)]
    count: Counter[str] = Counter()
    spec = precomputed_spec(path.name, digest, modality=key, padding=side or "unknown", lengths=source)
    names = tuple(f"{key}_{i}" for i in range(width))
    write_precomputed(folder, spec, names, _sequences(parts, key, spans, count))
    return ModalityReport(
        features=width,
        longest_steps=max((int((s.stop - s.start).max(initial=0)) for s in spans), default=0),
        padding=side or ("none" if source == "ragged" else "unknown"),
        lengths=source,
        clips=count["clips"],
        missing=count["missing"],
        corrected=sum(s.corrected for s in spans),
        not_finite=count["not finite"],
    )


def _used(clips: Sequence[Array]) -> Array | None:
    """`(N, L)`: which steps hold a finite number other than 0; None where clips differ in length."""
    if len({len(clip) for clip in clips}) > 1:
        return None
    used: Array = np.stack([((clip != 0) & np.isfinite(clip)).any(axis=1) for clip in clips])
    return used


def _source(part: Part, key: str, used: Array | None) -> str:
    """What says how long the clips are."""
    if used is None:
        return "ragged"
    if key in part.lengths:
        return f"{key}_lengths"
    if part.mask is not None and part.mask.shape == used.shape:
        if key == "text":
            return "text_bert"
        if find_spans(used, part.mask.sum(axis=1)).corrected <= (1 - FITS) * len(used):
            return "text_bert"
    return "zeros"


def _lengths(part: Part, key: str, source: str) -> Array | None:
    if source == f"{key}_lengths":
        lengths: Array = np.asarray(part.lengths[key]).reshape(-1)
        return lengths
    if source == "text_bert" and key != "text" and part.mask is not None:
        return np.asarray(part.mask.sum(axis=1))
    return None


def _spans(part: Part, key: str, used: Array | None, lengths: Array | None, side: Side | None) -> Spans:
    if used is not None:
        return find_spans(used, lengths, side)
    stops = np.array([len(clip) for clip in part.features[key]], np.int64)
    return Spans(np.zeros(len(stops), np.int64), stops, None)


def _sequences(
    parts: Sequence[Part], key: str, spans: Sequence[Spans], count: Counter[str]
) -> Iterator[tuple[str, NDArray[np.float32], str]]:
    for part, own in zip(parts, spans, strict=True):
        for i, clip in enumerate(part.features[key]):
            with np.errstate(over="ignore", invalid="ignore"):
                values = np.asarray(clip[own.start[i] : own.stop[i]]).astype(np.float32)
            bad = ~np.isfinite(values)
            values[bad] = 0.0
            count["not finite"] += int(bad.sum())
            if not values.any():  # zeros are no data
                values = values[:0]
            count["clips" if len(values) else "missing"] += 1
            yield part.ids[i], values, "only zeros in the imported file"


def modality_notes(report: ModalityReport) -> Iterator[str]:
    """What a reader should know about how a modality was read."""
    if report.missing:
        yield f"{report.missing} clips hold only zeros and count as missing"
    if report.not_finite:
        yield f"{report.not_finite} values were infinite or undefined and are read as 0"
    if report.corrected:
        yield f"{report.corrected} clips have data beyond their given length and were read by their data"
    if report.padding == "unknown":
        yield "no clip tells which side the padding is on: read as on the right; give another with --padding left"
