"""librosa, with its compiled functions made by one process at a time."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from extractors.errors import ToolError
from extractors.loading import without_collecting

WAIT_SECONDS = 300.0


@cache
def load_librosa() -> Any:
    """The librosa module, ready to use.

    librosa compiles some of its functions with numba when they are first used and keeps them beside its source. Two
    processes that do so at once overwrite each other's files, and every later process that reads these crashes with
    a segmentation fault. So the first use happens under a lock: on a new installation one process compiles (about
    15 s) and the others wait. What it compiled for is noted, and while this is as it was, nobody waits any more.

    Raises:
        ToolError: another process has held the lock for too long.
    """
    from filelock import FileLock, Timeout

    if _is_compiled():
        return _load()
    path = lock_path()
    try:
        with FileLock(path, timeout=WAIT_SECONDS):
            librosa = _load()
            _note_compiled()
            return librosa
    except Timeout:
        raise ToolError(
            f"another process has been compiling librosa's functions for {WAIT_SECONDS:.0f} s: end it, or delete "
            f"{path} if there is none"
        ) from None


def _load() -> Any:
    with without_collecting():
        import librosa

        use_compiled(librosa)  # librosa imports its parts when they are first used
        return librosa


def lock_path() -> Path:
    """One lock per user and installation of librosa."""
    home = hashlib.sha256(str(_source()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"mmsa-{os.getuid()}-librosa-{home}.lock"


def _source() -> Path | None:
    spec = find_spec("librosa")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _is_compiled() -> bool:
    """Whether everything was compiled for just this case, and is still there."""
    try:
        noted = json.loads(_note().read_text(encoding="utf-8"))
        return bool(noted["case"] == _case() and noted["kept"]) and all(map(os.path.exists, noted["kept"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _note_compiled() -> None:
    """Note what was compiled for, and what files hold it; without such files, as numba may keep them elsewhere, not."""
    source, elsewhere = _source(), os.environ.get("NUMBA_CACHE_DIR")
    kept = [str(path) for place in (source, elsewhere) if place for path in Path(place).rglob("*.nbi")]
    if not kept:
        return
    with suppress(OSError), tempfile.NamedTemporaryFile("w", dir=_note().parent, delete=False) as file:
        json.dump({"case": _case(), "kept": sorted(kept)}, file)
        file.close()
        Path(file.name).replace(_note())


def _note() -> Path:
    return lock_path().with_suffix(".json")


def _case() -> str:
    """All that numba looks at before it takes what is kept: sources, versions, processor and settings."""
    from llvmlite import binding

    source = _source()
    files = sorted(source.rglob("*.py")) if source else []
    looked_at = [
        [(str(file), stat.st_mtime_ns, stat.st_size) for file in files if (stat := file.stat())],
        [version(name) for name in ("numba", "llvmlite", "numpy")],
        sys.version,
        (binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()),
        sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_")),
    ]
    return hashlib.sha256(repr(looked_at).encode()).hexdigest()


def use_compiled(librosa: Any) -> None:
    """Call what the extractors call, so that everything compiled is compiled, and read."""
    noise = np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    librosa.yin(noise, fmin=60, fmax=500, sr=16000, frame_length=1024)
    librosa.feature.zero_crossing_rate(noise)
    librosa.feature.delta(librosa.feature.mfcc(y=noise, sr=16000, n_fft=512), width=3)
    magnitude = np.abs(librosa.stft(noise, n_fft=512))
    for name in ("spectral_centroid", "spectral_bandwidth", "spectral_rolloff"):
        getattr(librosa.feature, name)(S=magnitude, sr=16000)
    librosa.feature.spectral_flatness(S=magnitude)
    librosa.util.frame(noise, frame_length=512, hop_length=256)
