"""`mmsa doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Literal, cast

Status = Literal["ok", "limited", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was tried.

    Attributes:
        name: what.
        status: `"ok"`; `"limited"`: works, with less; `"broken"`: a part of mmsa will not work.
        found: what was seen.
        advice: what to do, or "".
    """

    name: str
    status: Status
    found: str
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def examine() -> Iterator[Finding]:
    """Try everything mmsa depends on, one finding after the other; a check that fails is a finding, not an error."""
    for name, check in CHECKS.items():
        try:
            yield check()
        except Exception as error:  # noqa: BLE001 - whatever is wrong on this machine is what doctor reports
            yield Finding(name, "broken", f"{type(error).__name__}: {str(error)[:300]}", ADVICE.get(name, ""))


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    good = (3, 11) <= sys.version_info[:2] <= (3, 12)
    return Finding("python", "ok" if good else "broken", found, "" if good else "use Python 3.11 or 3.12")


def _torch() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("torch", "ok", f"{torch.__version__}, no CUDA device: everything runs on the CPU")
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return Finding("torch", "ok", f"{torch.__version__}, CUDA {torch.version.cuda}: {names}")


def _torchaudio() -> Finding:
    import torch
    import torchaudio

    features = torchaudio.compliance.kaldi.fbank(torch.randn(1, 1600), sample_frequency=16000.0)
    return Finding("torchaudio", "ok", f"{torchaudio.__version__}, made {tuple(features.shape)} filter banks")


def _librosa() -> Finding:
    import numpy as np

    from extractors.speech.compiled import load_librosa

    librosa = load_librosa()
    tone = np.sin(2 * np.pi * 220 * np.arange(8000) / 16000).astype(np.float32)
    pitch = float(np.median(librosa.yin(tone, fmin=60, fmax=500, sr=16000)))
    good = abs(pitch - 220) < 5
    return Finding(
        "librosa", "ok" if good else "broken", f"{librosa.__version__}, heard a 220 Hz tone as {pitch:.0f} Hz"
    )


def _face() -> Finding:
    import numpy as np

    import extractors as ex

    stream = cast(ex.VisionExtractor, ex.build("facial.facemesh")).stream()
    stream.push(np.zeros((64, 64, 3), np.uint8), [0])
    seen = len(stream.finish())
    state = "saw a face where none is" if seen else "loaded its models and found no face in an empty picture"
    return Finding("face", "broken" if seen else "ok", f"mediapipe {version('mediapipe')}, {state}")


def _media() -> Finding:
    import av

    wanted = ("h264", "hevc", "vp9", "av1", "aac", "mp3", "opus")
    lacking = [name for name in wanted if name not in av.codecs_available]
    if lacking:
        found = f"PyAV {version('av')} cannot read {', '.join(lacking)}"
        return Finding("media", "limited", found, "install PyAV's own wheel: pip install av")
    return Finding("media", "ok", f"PyAV {version('av')} reads {', '.join(wanted)}")


def _decoding() -> Finding:
    """Where frames are decoded; with a CUDA device, by decoding a small film on it."""
    import torch

    from extractors.decoding import why_not

    if not torch.cuda.is_available():
        return Finding("decoding", "ok", f"on the CPU: torch finds no CUDA device, and FFmpeg says: {why_not('cuda')}")
    from extractors.decoding_check import CODECS, try_nvdec

    able = {codec: try_nvdec(codec) for codec in CODECS}
    good = [codec for codec, reason in able.items() if not reason]
    found = f"NVDEC decodes {', '.join(good) or 'nothing'}"
    if bad := [f"{codec} on the CPU ({reason})" for codec, reason in able.items() if reason]:
        found += "; " + "; ".join(bad)
    if good:
        return Finding("decoding", "ok", found)
    return Finding("decoding", "limited", found, ADVICE["decoding"])


def _text() -> Finding:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    valence = SentimentIntensityAnalyzer().polarity_scores("I love this")["compound"]
    return Finding("text", "ok" if valence > 0.5 else "broken", f"VADER finds 'I love this' at {valence:+.2f}")


def _encoders() -> Finding:
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    where = "the hub is switched off (HF_HUB_OFFLINE=1): local folders only" if offline else "hub ids or local folders"
    return Finding("encoders", "limited" if offline else "ok", f"transformers {version('transformers')}, {where}")


def _tracking() -> Finding:
    from mmsa.tracking import client, tracking_uri

    count = len(client().search_experiments())
    return Finding("tracking", "ok", f"mlflow {version('mlflow')} at {tracking_uri()}, {count} experiments")


def _cache() -> Finding:
    from mmsa.paths import cache_dir

    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder):
        pass
    free = shutil.disk_usage(folder).free / 2**30
    status: Status = "ok" if free > 2 else "limited"
    return Finding(
        "cache", status, f"{folder}, {free:.0f} GiB free", "" if free > 2 else "free some disk, or set MMSA_CACHE"
    )


def _corpora() -> Finding:
    from mmsa.corpora import CORPORA

    data = os.environ.get("MMSA_DATA")
    where = f"MMSA_DATA is {data}" if data else "MMSA_DATA is unset: give folders with --root"
    return Finding("corpora", "ok", f"{', '.join(CORPORA)}; {where}")


CHECKS: dict[str, Callable[[], Finding]] = {
    "python": _python,
    "torch": _torch,
    "torchaudio": _torchaudio,
    "librosa": _librosa,
    "face": _face,
    "media": _media,
    "decoding": _decoding,
    "text": _text,
    "encoders": _encoders,
    "tracking": _tracking,
    "cache": _cache,
    "corpora": _corpora,
}

ADVICE = {
    "torch": "install torch==2.11.* from the package index (its CUDA build also runs on CPUs)",
    "torchaudio": "torch and torchaudio must both be 2.11, in the CUDA build, as pyproject.toml pins them",
    "face": "pip install mediapipe==0.10.21; if libGL.so.1 is missing: apt-get install libgl1 libglib2.0-0",
    "librosa": "pip install librosa",
    "media": "pip install av",
    "decoding": "the CPU decodes instead; NVDEC needs the driver's libnvcuvid.so.1: start a container "
    "with NVIDIA_DRIVER_CAPABILITIES=compute,utility,video",
    "text": "pip install vaderSentiment",
    "encoders": "pip install 'transformers>=5,<6'",
    "tracking": "check MLFLOW_TRACKING_URI, and that its server answers",
    "cache": "set MMSA_CACHE to a folder you can write to",
}
