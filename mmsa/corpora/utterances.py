"""Utterance-level features that came with a corpus as one `.npz` file: one vector per clip, made into a modality."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsa.corpora.clip import SPLITS, Clip
from mmsa.errors import UsageError
from mmsa.paths import cache_dir
from mmsa.precomputed import precomputed_spec, write_precomputed

Vectors = NDArray[np.float32]


def store_utterances(
    corpus: str, modality: str, clips: Sequence[Clip], path: Path, shuffle_seed: int | None = None
) -> Path:
    """Make a feature table of one step per clip, in the cache, where it is not there yet.

    Args:
        corpus: its name.
        modality: the features are.
        clips: all of them, in order; ids as `<video>$_$<clip>`.
        path: an archive with `ids` `(M,)`, as `<video>_<clip>`, and `features` `(M, D)`. Nothing in it is run.
        shuffle_seed: deal the vectors out anew among the clips of each split: what they say of a clip is lost, how
            they are distributed stays. None leaves each clip its own.

    Returns:
        The table's folder; it changes when the file, the clips or the seed do.

    Raises:
        UsageError: the file is not as it must be.
    """
    try:
        digest = hashlib.sha256(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    digest.update(repr([(clip.id, clip.split) for clip in clips]).encode())
    digest.update(f"{modality} {shuffle_seed}".encode())
    folder = cache_dir() / "features" / f"{corpus}-utterances" / f"{modality}-{digest.hexdigest()[:16]}"
    if not (folder / "store.json").is_file():
        vectors = _read(path)
        if not any(_key(clip) in vectors for clip in clips):
            raise UsageError(f"{path}: none of the file's ids is that of a clip; they must read <video>_<clip>")
        if shuffle_seed is not None:
            vectors = _shuffled(vectors, clips, shuffle_seed)
        width = len(next(iter(vectors.values())))
        parameters = {} if shuffle_seed is None else {"shuffled_within_split_with_seed": shuffle_seed}
        spec = precomputed_spec(path.name, digest.hexdigest(), modality=modality, **parameters)
        names = tuple(f"{modality}_{i}" for i in range(width))
        write_precomputed(folder, spec, names, _steps(vectors, clips, width))
    return folder


def _read(path: Path) -> dict[str, Vectors]:
    """Vectors by id.

    Raises:
        UsageError: the file is not as it must be.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            ids, features = data["ids"], data["features"]
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} must be an .npz archive with plain arrays `ids` and `features`: {error}") from None
    if ids.ndim != 1 or ids.dtype.kind != "U" or features.shape[:1] != ids.shape or features.ndim != 2:
        raise UsageError(
            f"{path}: ids must be (M,) text and features (M, D) numbers, not {ids.shape} {ids.dtype} and "
            f"{features.shape} {features.dtype}"
        )
    if features.dtype.kind not in "iuf" or not np.isfinite(features).all():
        raise UsageError(f"{path}: features must be finite numbers")
    if not len(ids) or len(set(ids.tolist())) < len(ids):
        raise UsageError(f"{path}: each id must stand there once, and at least one")
    return dict(zip(ids.tolist(), features.astype(np.float32), strict=True))


def _key(clip: Clip) -> str:
    return clip.id.replace("$_$", "_")


def _shuffled(vectors: Mapping[str, Vectors], clips: Sequence[Clip], seed: int) -> dict[str, Vectors]:
    rng = np.random.default_rng(seed)
    dealt: dict[str, Vectors] = {}
    for split in SPLITS:
        keys = [_key(clip) for clip in clips if clip.split == split and _key(clip) in vectors]
        order = rng.permutation(len(keys))
        dealt.update({key: vectors[keys[place]] for key, place in zip(keys, order, strict=True)})
    return dealt


def _steps(vectors: Mapping[str, Vectors], clips: Sequence[Clip], width: int) -> Iterator[tuple[str, Vectors, str]]:
    nothing = np.zeros((0, width), np.float32)
    for clip in clips:
        vector = vectors.get(_key(clip))
        yield clip.id, nothing if vector is None else vector[None, :], "no vector in the file"
