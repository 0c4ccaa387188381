"""librosa, with its compiled functions made by one process at a time."""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from extractors.errors import ToolError

WAIT_SECONDS = 300.0


@cache
def load_librosa() -> Any:
    """The librosa module, ready to use.

    librosa compiles some of its functions with numba when they are first used and keeps them beside its source. Two
    processes that do so at once overwrite each other's files, and every later process that reads these crashes with
    a segmentation fault. So the first use in each process happens under a lock: on a new installation one process
    compiles (about 15 s) and the others wait; afterwards it costs what reading the files costs anyway.

    Raises:
        ToolError: another process has held the lock for too long.
    """
    from filelock import FileLock, Timeout

    path = lock_path()
    try:
        with FileLock(path, timeout=WAIT_SECONDS):
            import librosa

            use_compiled(librosa)
            return librosa
    except Timeout:
        raise ToolError(
            f"another process has been compiling librosa's functions for {WAIT_SECONDS:.0f} s: end it, or delete "
            f"{path} if there is none"
        ) from None


def lock_path() -> Path:
    """One lock per user and installation of librosa."""
    spec = find_spec("librosa")
    home = hashlib.sha256(str(spec.origin if spec else "").encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"mmsa-{os.getuid()}-librosa-{home}.lock"


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
