"""UR-FUNNY: whether the last sentence of a stretch of a TED talk made the audience laugh.

Hasan et al., "UR-FUNNY: A Multimodal Language Dataset for Understanding Humor", EMNLP 2019. This adapter follows the
README files of the authors' repository and could not be run on the release itself. They describe these pickles, which
are read without running anything in them (`mmsa.corpora.safe_pickle`):

| file | content |
| --- | --- |
| `data_folds.pkl` | `train`, `dev` and `test`: lists of ids |
| `humor_label_sdk.pkl` | 1 (humorous) or 0, by id |
| `language_sdk.pkl` (version 2) | by id: `punchline_sentence`, `context_sentences`, `punchline_embedding_indexes` … |
| `word_embedding_indexes_sdk.pkl` (version 1) | by id: `punchline_embedding_indexes` …, no sentences |
| `word_embedding_list.pkl` | the words' GloVe vectors, which the indexes point into |
| `covarep_features_sdk.pkl` | by id: `punchline_features`, 81 numbers a word, and `context_features` |
| `openface_features_sdk.pkl` | the same with 371 numbers a word; 75 in version 1 |

Version 2 has 10,166 clips; version 1, on which the paper reports, 16,514. A feature file that is not there is a
modality that is not there. What is said and shown is the last sentence, the punchline: one step per word in each
modality. The sentences before it are in the attribute `context` (a JSON list); their features are not read.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsa.corpora.clip import SPLITS, Corpus, Split
from mmsa.corpora.imported import ClipRow, Imported, ModalityReport, checked_name, corpus_folder, write_corpus
from mmsa.corpora.safe_pickle import load_numpy_pickle
from mmsa.errors import UsageError
from mmsa.paths import cache_dir
from mmsa.precomputed import precomputed_spec, write_precomputed
from mmsa.tasks import Classification

FOLDS, LABELS, VECTORS = "data_folds.pkl", "humor_label_sdk.pkl", "word_embedding_list.pkl"
LANGUAGE = ("language_sdk.pkl", "word_embedding_indexes_sdk.pkl")
FEATURES = {"audio": "covarep_features_sdk.pkl", "vision": "openface_features_sdk.pkl"}
FOLD_NAMES: dict[Split, str] = {"train": "train", "valid": "dev", "test": "test"}
VIDEOS = ("urfunny2_videos", "videos", ".")
"""Folders in which version 2's `<id>.mp4` are looked for."""

HUMOR = Classification("humor", ("not humorous", "humorous"))
NOTE = "The features are those that were released with UR-FUNNY; no extractor of mmsa made them."
CONTEXT_NOTE = " Transcripts begin with the sentences before the punchline; sound and picture are the punchline's."
SHOWN = 5

Values = dict[str, NDArray[np.float32]]


def load_urfunny(root: Path, *, context: bool = False) -> Corpus:
    """Read the release; the first time, its features are put into the cache, which may take minutes.

    Args:
        root: the folder with the pickles and, if at hand, version 2's clips in `urfunny2_videos/`.
        context: whether transcripts begin with the sentences before the punchline.

    Raises:
        UsageError: a file is missing or holds what it cannot.
    """
    from mmsa.corpora.table import load_table

    name = "urfunny-context" if context else "urfunny"
    stamps = [[p.name, (s := p.stat()).st_size, s.st_mtime_ns] for p in sorted(root.glob("*.pkl"))]
    digest = hashlib.sha256(json.dumps([str(root.resolve()), stamps]).encode()).hexdigest()
    folder = cache_dir() / "imports" / f"{name}-{digest[:16]}"
    if not folder.is_dir():
        try:
            import_urfunny(root, folder, name=name, context=context)
        except (OSError, UsageError):
            if not folder.is_dir():  # else another process was faster
                raise
    return replace(load_table(folder / "clips.csv"), name=name)


load_with_context = partial(load_urfunny, context=True)


def import_urfunny(
    source: Path | str, folder: Path | str, *, name: str | None = None, context: bool = False
) -> Imported:
    """Turn the release's pickles into a corpus that can be trained on without any extractor.

    Args:
        source: the folder with the pickles.
        folder: where to write the corpus; must not exist.
        name: of the corpus; None is the folder's.
        context: whether transcripts begin with the sentences before the punchline.

    Raises:
        UsageError: a file is missing or holds what it cannot; or the folder exists.
    """
    source, folder = Path(source), Path(folder)
    name = checked_name(name, folder)
    folds = _read_folds(source / FOLDS)
    labels = _by_id(source / LABELS)
    lacking = [clip for clip in folds if labels.get(clip) not in (0, 1)]
    if lacking:
        raise UsageError(
            f"{source / LABELS} has no 0 or 1 for {len(lacking)} clips, such as {', '.join(lacking[:SHOWN])}"
        )
    language_file = next((path for part in LANGUAGE if (path := source / part).is_file()), None)
    language = _by_id(language_file, _language_part) if language_file else {}
    rows = list(_rows(source, folds, labels, language, context))
    ids = [row.id for row in rows]
    with corpus_folder(folder) as partial_folder:
        reports = {}
        for key, path, values in _modalities(source, language):
            reports[key] = _write(partial_folder / "features" / key, key, path, ids, values)
        found = [key for key, report in reports.items() if report.clips]
        note = (NOTE if found else "") + (CONTEXT_NOTE if context else "")
        write_corpus(partial_folder, name, note.strip(), (HUMOR,), rows, found)
    counts = Counter(row.split for row in rows)
    notes = tuple(_notes(source, folds, labels, rows, reports))
    return Imported(folder, name, {split: counts[split] for split in SPLITS}, (HUMOR,), reports, notes)


def _load(path: Path, transform: Any = None) -> Any:
    if not path.is_file():
        raise UsageError(f"{path} not found: give the folder that holds UR-FUNNY's pickles")
    return load_numpy_pickle(path, transform=transform)


def _read_folds(path: Path) -> dict[str, Split]:
    """The split by clip, in the order of the file."""
    data, folds = _load(path), dict[str, Split]()
    for split, key in FOLD_NAMES.items():
        ids = data.get(key) if isinstance(data, dict) else None
        if not isinstance(ids, list | np.ndarray) or not len(ids):
            raise UsageError(f"{path} must hold the lists {', '.join(FOLD_NAMES.values())}: {key} is none")
        for clip in map(_identity, ids):
            if clip in folds:
                raise UsageError(f"{path} names the clip {clip} twice, in {folds[clip]} and {split}")
            folds[clip] = split
    return folds


def _identity(item: Any) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)


def _by_id(path: Path, transform: Any = None) -> dict[str, Any]:
    data = _load(path, transform)
    if not isinstance(data, dict):
        raise UsageError(f"{path} must hold a dictionary by clip, not a {type(data).__name__}")
    return {_identity(key): value for key, value in data.items()}


def _is_label(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and value in (0, 1)


def _language_part(key: Any, value: Any) -> Any:
    """Of a clip's entry what is used; the rest, most of the file, is dropped as it is read."""
    return None if key in ("context_embedding_indexes", "context_intervals", "punchline_intervals") else value


def _sentence(value: Any) -> str:
    """A sentence, which may also come as a list of words or hold another's worth of white space."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, list | tuple):
        value = " ".join(_sentence(item) for item in value)
    text = "" if value is None else str(value)
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _rows(
    source: Path, folds: Mapping[str, Split], labels: Mapping[str, Any], language: Mapping[str, Any], context: bool
) -> Iterator[ClipRow]:
    for clip, split in folds.items():
        own = language.get(clip)
        own = own if isinstance(own, dict) else {}
        punchline = _sentence(own.get("punchline_sentence"))
        before = own.get("context_sentences")
        sentences = [_sentence(item) for item in before] if isinstance(before, list | tuple) else []
        video = next((p for part in VIDEOS if (p := source / part / f"{Path(clip).name}.mp4").is_file()), None)
        yield ClipRow(
            id=clip,
            split=split,
            labels={HUMOR.name: HUMOR.classes[int(labels[clip])]},
            transcript=" ".join([*sentences, punchline]) if context and punchline else punchline,
            media=str(video.resolve()) if video else "",
            attributes={"context": json.dumps(sentences, ensure_ascii=False)} if sentences else None,
        )


def _modalities(source: Path, language: Mapping[str, Any]) -> Iterator[tuple[str, Path, Values]]:
    """By modality: the file that it comes from, and `(T, D)` by clip."""
    for key, file in FEATURES.items():
        if (source / file).is_file():
            read = _by_id(source / file, partial(_features_part, source / file))
            yield key, source / file, {c: v["punchline_features"] for c, v in read.items() if _has_features(v)}
    if language and (source / VECTORS).is_file():
        vectors = _vectors(source / VECTORS)
        yield "text", source / VECTORS, dict(_embedded(source / VECTORS, vectors, language))


def _has_features(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("punchline_features"), np.ndarray)


def _features_part(path: Path, key: Any, value: Any) -> Any:
    """Of a clip's entry the punchline's features, packed as they are read; the context's are dropped."""
    if key == "context_features":
        return None
    return _matrix(path, value) if key == "punchline_features" else value


def _matrix(path: Path, value: Any) -> NDArray[np.float32]:
    """`(T, D)` float32 of an array, a list of arrays or a list of lists of numbers; `(0, 0)` where there is no step."""
    try:
        array = np.asarray([np.asarray(step, np.float64) for step in value], np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: features of a punchline must be numbers, as many for each word: {error}") from None
    if not array.size:
        return np.zeros((0, 0), np.float32)
    if array.ndim != 2:
        raise UsageError(f"{path}: features of a punchline must be (words, features), not {array.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32)


def _vectors(path: Path) -> NDArray[np.float32]:
    vectors = _matrix(path, _load(path))
    if not len(vectors):
        raise UsageError(f"{path} holds no vectors")
    return vectors


def _embedded(
    path: Path, vectors: NDArray[np.float32], language: Mapping[str, Any]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for clip, own in language.items():
        given = own.get("punchline_embedding_indexes") if isinstance(own, dict) else None
        if given is None:
            continue
        try:
            index = np.asarray(given, np.float64).reshape(-1)
        except (TypeError, ValueError):
            index = np.array([np.nan])
        if not ((index >= 0) & (index < len(vectors))).all():
            raise UsageError(f"clip {clip}: its words' indexes must lie in [0, {len(vectors)}), as {path.name} is long")
        yield clip, vectors[index.astype(np.int64)]


def _write(folder: Path, key: str, path: Path, ids: Sequence[str], values: Values) -> ModalityReport:
    widths = Counter(v.shape[1] for v in values.values() if len(v))
    if len(widths) > 1:
        told = ", ".join(f"{n} in {count} clips" for n, count in widths.most_common())
        raise UsageError(f"{path}: features must be as many in every clip, not {told}")
    width = next(iter(widths), 1)
    count: Counter[str] = Counter()

    def sequences() -> Iterator[tuple[str, NDArray[np.float32], str]]:
        for clip in ids:
            own = np.array(values.get(clip, np.zeros((0, width))), np.float32).reshape(-1, width)
            bad = ~np.isfinite(own)
            own[bad] = 0.0
            own = own if own.any() else own[:0]  # zeros are no data
            count["clips" if len(own) else "missing"] += 1
            count["not finite"] += int(bad.sum())
            count["longest"] = max(count["longest"], len(own))
            yield clip, own, f"no {key} features in {path.name}"

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    spec = precomputed_spec(path.name, digest, modality=key)
    write_precomputed(folder, spec, tuple(f"{key}_{i}" for i in range(width)), sequences())
    return ModalityReport(
        features=width,
        longest_steps=count["longest"],
        padding="none",
        lengths="ragged",
        clips=count["clips"],
        missing=count["missing"],
        corrected=0,
        not_finite=count["not finite"],
    )


def _notes(
    source: Path,
    folds: Mapping[str, Split],
    labels: Mapping[str, Any],
    rows: Sequence[ClipRow],
    reports: Mapping[str, ModalityReport],
) -> Iterator[str]:
    if len(labels) > len(folds):
        yield f"{len(labels) - len(folds)} clips with a label are in no split and were left out"
    silent = sum(not row.transcript for row in rows)
    if silent:
        yield f"{silent} clips have no sentence" + (" (version 1 has none)" if silent == len(rows) else "")
    for key, file in {**FEATURES, "text": VECTORS}.items():
        if key not in reports:
            yield f"{key}: no features, as {file} is not in {source}"
        elif reports[key].missing:
            yield f"{key}: {reports[key].missing} clips lack it"
        if key in reports and reports[key].not_finite:
            yield f"{key}: {reports[key].not_finite} values were infinite or undefined and are read as 0"
