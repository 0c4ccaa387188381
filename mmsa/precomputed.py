"""Features that came with a corpus: tables in the feature store's own format, made by no extractor of mmsa."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extractors.sequence import FeatureSequence
from extractors.spec import ExtractorSpec
from mmsa.errors import UsageError

if TYPE_CHECKING:
    from mmsa.corpora.clip import Corpus
    from mmsa.features import FeatureTable

PRECOMPUTED = "precomputed"
"""Name in the spec of features that no extractor made."""

CLIPS = "clips.json"
"""The ids of the clips that a table is of, in its order."""


def precomputed_spec(source: str, digest: str, **parameters: Any) -> ExtractorSpec:
    """The identity of features that came ready-made.

    Args:
        source: what they came in, such as a file's name.
        digest: of its content.
        **parameters: how they were read from it; JSON values only.
    """
    return ExtractorSpec(PRECOMPUTED, source, digest[:16], parameters)


def is_precomputed(spec: ExtractorSpec) -> bool:
    """Whether no extractor made these features, so that none can make them of a new video."""
    return spec.name == PRECOMPUTED


def refuse_precomputed(specs: Mapping[str, ExtractorSpec]) -> None:
    """Refuse to compute the features of a new video where the model was trained on ready-made ones.

    Raises:
        UsageError: at least one modality is precomputed; all are named.
    """
    ready = {key: spec.tool for key, spec in sorted(specs.items()) if is_precomputed(spec)}
    if ready:
        named = ", ".join(f"{key} (from {source})" for key, source in ready.items())
        raise UsageError(
            f"this model was trained on features that came ready-made with its corpus: {named}. They cannot be "
            "computed from a video. To score videos, train with extractors only: on a corpus with media, or with "
            f"--set extractors.{next(iter(ready))}.name=… where the corpus has what that extractor reads"
        )


def write_precomputed(
    folder: Path,
    spec: ExtractorSpec,
    names: tuple[str, ...],
    clips: Iterable[tuple[str, NDArray[np.float32], str]],
) -> None:
    """Write a table of ready-made features; it appears whole or not at all.

    Such features carry no times, so that a step's times are its number and the next one.

    Args:
        folder: where.
        spec: from `precomputed_spec`.
        names: `D` feature names.
        clips: id, `(T, D)` float32 values and, for a clip without steps, why it has none.
    """
    from mmsa.features.table import sync, table_writer

    ids = []
    with table_writer(folder, spec, names) as writer:
        for clip_id, values, reason in clips:
            steps = np.arange(len(values), dtype=np.float64)
            sequence = FeatureSequence(values, np.stack([steps, steps + 1], axis=1), names)
            writer.add(clip_id, sequence, None if len(values) else reason)
            ids.append(clip_id)
        with (writer.folder / CLIPS).open("w", encoding="utf-8") as file:
            json.dump(ids, file)
            sync(file)


def open_precomputed(corpus: Corpus, modality: str) -> FeatureTable:
    """Open the ready-made features of one modality.

    Raises:
        UsageError: the folder is no table, or is one of other clips.
    """
    from mmsa.features import open_table

    folder = corpus.features[modality]
    if not (folder / "store.json").is_file() or not (folder / CLIPS).is_file():
        raise UsageError(f"{folder} holds no features: the corpus {corpus.name} names it as its {modality}")
    ids = json.loads((folder / CLIPS).read_text(encoding="utf-8"))
    own = [clip.id for clip in corpus.clips]
    if ids != own:
        place = next((i for i, (a, b) in enumerate(zip(ids, own, strict=False)) if a != b), min(len(ids), len(own)))
        raise UsageError(
            f"the {modality} features of {corpus.name} in {folder} are of other clips than its table: {len(ids)} and "
            f"{len(own)}, different from clip {place + 1} on. Put the table back as it was, or import it again"
        )
    return open_table(folder)
