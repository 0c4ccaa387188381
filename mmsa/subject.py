"""What is evaluated: a trained run with its extractors, and the clips of one split with their features."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsa.bundle import Bundle, load_bundle
from mmsa.corpora import load_corpus
from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.errors import UsageError, unknown
from mmsa.features.aligned import TEXT, WORDS
from mmsa.tracking import find_bundle, find_run

if TYPE_CHECKING:
    from extractors.base import Extractor
    from mmsa.features import FeatureTable

CONFIG = "config.json"
"""Artifact of a run that holds its settings."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained model.

    Attributes:
        name: as it was asked for.
        run_id: MLflow's; None for a bundle folder.
        bundle: the model with its extractors' specs.
        settings: of its training; empty where only a bundle is at hand.
    """

    name: str
    run_id: str | None
    bundle: Bundle
    settings: Mapping[str, Any]

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model takes."""
        return tuple(self.bundle.model.config.input_dims)

    @property
    def feature_dtype(self) -> str:
        """The precision that features were kept in."""
        return str(self.settings.get("feature_dtype", "float32"))

    def corpus(self, name: str | None, root: Path | str | None) -> Corpus:
        """Another corpus, or the one that the model was trained on.

        Raises:
            UsageError: it cannot be found.
        """
        if name is not None:
            return load_corpus(name, root)
        own = str(self.settings.get("corpus", self.bundle.corpus))
        return load_corpus(own, root if root is not None else self.settings.get("root"))


def open_subject(run: str | Path) -> Subject:
    """Find a run and read what it left.

    Args:
        run: an MLflow run id, a bundle folder, or `"latest"`.

    Raises:
        UsageError: there is no such run, or its bundle cannot be read.
    """
    run_id = find_run(str(run))
    folder = find_bundle(run_id or str(run))
    return Subject(str(run), run_id, load_bundle(folder), _settings(folder.parent / CONFIG))


def _settings(path: Path) -> dict[str, Any]:
    """The run's settings as they were written, by whichever version of mmsa."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, eq=False)
class Material:
    """The clips under test with their features.

    Attributes:
        corpus: with the clips under test; others are among them only where ready-made features are of all clips.
        split: which are under test.
        modalities: those that the model is given, in its order.
        extractors: of those that are extracted here.
        tables: features of `corpus`: those of `modalities`, and of text where its words are the model's grid.
        notes: what a reader must know.
    """

    corpus: Corpus
    split: Split
    modalities: tuple[str, ...]
    extractors: Mapping[str, Extractor]
    tables: Mapping[str, FeatureTable]
    notes: tuple[str, ...]


def open_material(
    subject: Subject,
    whole: Corpus,
    split: Split,
    *,
    modalities: Sequence[str] | None = None,
    jobs: int | None = None,
    trust_extractors: bool = False,
    device: str = "auto",
) -> Material:
    """Make or open the features that a model needs of a split.

    Args:
        subject: the model.
        whole: the corpus.
        split: which of its clips.
        modalities: those to give the model; None gives all that the clips have.
        jobs: processes that extract; None is one per core.
        trust_extractors: see `mmsa.scoring.Scorer`.
        device: see `mmsa.features.load_features`.

    Raises:
        UsageError: there are no such clips, an extractor cannot be built here or is not trusted, or ready-made features
            that the model needs did not come with this corpus.
    """
    from mmsa.features import load_features, summarise_missing, summarise_notes
    from mmsa.features.transcripts import hear_words
    from mmsa.precomputed import is_precomputed

    if not whole.split(split):
        raise UsageError(f"the corpus {whole.name} has no {split} split: choose another with --split")
    given, notes = _given(subject, whole, split, modalities)
    ready = [key for key in given if is_precomputed(subject.bundle.extractors[key])]
    # Ready-made features are of every clip, in order; else only what is under test is extracted.
    corpus = whole if ready else replace(whole, clips=whole.split(split))
    # Where words are the steps of every modality, they are needed even if the model is not given them.
    words = subject.bundle.model.config.grid == WORDS and _may_have_words(subject, corpus.clips)
    placing = {TEXT} - set(given) if words else set()
    built = _rebuild(subject, [*(key for key in given if key not in ready), *placing], trust_extractors, device)
    corpus, heard, source = hear_words(corpus, subject.bundle.words, built, jobs=jobs)
    notes += heard.told(source) if heard is not None and source is not None else ()
    tables = {key: _open_ready_made(subject, corpus, key) for key in ready}
    if built:
        tables.update(load_features(corpus, built, jobs=jobs, store_dtype=subject.feature_dtype, device=device))
    built = {key: extractor for key, extractor in built.items() if key not in placing}
    told = (*notes, *summarise_missing(tables), *summarise_notes(tables))
    return Material(corpus, split, given, built, tables, told)


def _given(
    subject: Subject, corpus: Corpus, split: Split, wanted: Sequence[str] | None
) -> tuple[tuple[str, ...], list[str]]:
    """The modalities to use, in the model's order, and a note on each that no clip has."""
    for key in wanted or ():
        if key not in subject.modalities:
            raise unknown("modality of this model", key, subject.modalities)
    if wanted is not None:
        return tuple(key for key in subject.modalities if key in wanted), []
    lacking = [key for key in subject.modalities if not _may_have(subject, corpus, split, key)]
    given = tuple(key for key in subject.modalities if key not in lacking)
    if not given:
        raise UsageError(
            f"the {split} split of {corpus.name} has nothing that this model takes: it takes "
            f"{', '.join(subject.modalities)}, and the clips have no media, no words and no such features"
        )
    return given, [f"no clip has {key}: the model goes without" for key in lacking]


def _may_have(subject: Subject, corpus: Corpus, split: Split, modality: str) -> bool:
    """Whether a clip can have a modality; features that no extractor makes are always asked for."""
    from mmsa.precomputed import is_precomputed

    if is_precomputed(subject.bundle.extractors[modality]):
        return True
    clips = corpus.split(split)
    return _may_have_words(subject, clips) if modality == TEXT else any(clip.media is not None for clip in clips)


def _may_have_words(subject: Subject, clips: Sequence[Clip]) -> bool:
    """Whether a clip has a transcript, or sound in which words would be recognised."""
    heard = subject.bundle.words.transcribe is not None
    return any(clip.transcript or (heard and clip.may_sound) for clip in clips)


def _open_ready_made(subject: Subject, corpus: Corpus, modality: str) -> FeatureTable:
    from mmsa.precomputed import open_precomputed

    spec = subject.bundle.extractors[modality]
    if modality in corpus.features:
        table = open_precomputed(corpus, modality)
        if table.spec == spec:
            return table
        found = f"those of {corpus.name} are others (from {table.spec.tool})"
    else:
        found = f"{corpus.name} brings none"
    raise UsageError(
        f"this model was trained on {modality} features that came ready-made (from {spec.tool}), which cannot be "
        f"computed, and {found}: evaluate it on a corpus that came with them, or leave {modality} out with --modalities"
    )


def _rebuild(subject: Subject, modalities: Sequence[str], trust_extractors: bool, device: str) -> dict[str, Extractor]:
    import extractors as ex
    from extractors.registry import placement

    specs = {key: subject.bundle.extractors[key] for key in modalities}
    foreign = sorted({spec.name for spec in specs.values()} - set(ex.available()))
    if foreign and not trust_extractors:
        raise UsageError(
            f"this model uses {', '.join(foreign)}, code that is not part of mmsa: if you trust whoever made the "
            "model, pass --trust-extractors (trust_extractors=True)"
        )
    try:
        return {key: ex.rebuild(spec, **placement(spec.name, device)) for key, spec in specs.items()}
    except (ValueError, OSError, ImportError, ex.ToolError) as error:
        raise UsageError(f"an extractor of this model cannot be built here: {error}") from error
