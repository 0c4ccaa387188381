"""`TorchaudioFbank`: Kaldi's log mel filterbank, or its cepstra, by torchaudio."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors.base import AudioExtractor, AudioStream, check_range, make_spec
from extractors.errors import ToolError
from extractors.speech.framing import WindowedStream

_LOWEST_HZ = 20.0
_KINDS = ("fbank", "mfcc")


class TorchaudioFbank(AudioExtractor):
    """Log mel energies as Kaldi computes them, one step per hop: what speech networks are usually fed.

    `torchaudio.compliance.kaldi.fbank` with its defaults (Povey window, 0.97 pre-emphasis, windows that would run over
    the end left out) but without dither, so that the numbers are the same each time, and with samples at Kaldi's
    16-bit scale. Sums are floored at single precision's epsilon, as in Kaldi. Windows whose root mean square lies below
    `silence_db` give no step. `kind="mfcc"` gives the first `mfcc_count` cepstra of these energies in their place, as
    `torchaudio.compliance.kaldi.mfcc` (type-II cosine transform, liftered by 22).

    Args:
        kind: `"fbank"` or `"mfcc"`.
        mel_bins: number of bands, 20 Hz to half the sample rate.
        mfcc_count: number of cepstra, from the 0th.
        window_seconds: length of a window.
        hop_seconds: from one window's start to the next's.
        silence_db: windows quieter than this, in dB relative to full scale, give no step.
        device: `"auto"` (CUDA where there is one), or a torch device; changes numbers by rounding only.

    Raises:
        ValueError: a parameter is out of its range.

    Example:
        >>> TorchaudioFbank(mel_bins=40).names[-1]
        'mel_39'
    """

    REGISTRY_NAME = "speech.torchaudio"
    DEFINITION = 1
    rolling = True

    def __init__(
        self,
        *,
        kind: str = "fbank",
        mel_bins: int = 80,
        mfcc_count: int = 13,
        window_seconds: float = 0.025,
        hop_seconds: float = 0.01,
        silence_db: float = -60.0,
        device: str = "auto",
    ) -> None:
        check_range("mel_bins", mel_bins, 8, 128)
        check_range("window_seconds", window_seconds, 0.01, 0.2)
        check_range("hop_seconds", hop_seconds, 0.001, window_seconds)
        check_range("silence_db", silence_db, -120.0, 0.0)
        if kind == "mfcc":
            check_range("mfcc_count", mfcc_count, 1, mel_bins)
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {_KINDS}, not {kind!r}")
        self._cepstra = int(mfcc_count) if kind == "mfcc" else None
        self._device = device
        self.sample_rate_hz = 16000
        self.hop_samples = round(hop_seconds * self.sample_rate_hz)
        self.context_seconds = window_seconds
        self._window = round(window_seconds * self.sample_rate_hz)
        self._mel_bins, self._silence_db = int(mel_bins), float(silence_db)
        self.names = tuple(f"mel_{i}" for i in range(self._mel_bins))
        parameters: dict[str, Any] = {
            "mel_bins": mel_bins,
            "window_seconds": window_seconds,
            "hop_seconds": hop_seconds,
            "silence_db": silence_db,
        }
        if self._cepstra is not None:  # not for the filterbank, whose features keep their name
            self.names = tuple(f"mfcc_{i}" for i in range(self._cepstra))
            parameters |= {"kind": kind, "mfcc_count": mfcc_count}
        self.spec = make_spec(self.REGISTRY_NAME, "torchaudio", self.DEFINITION, parameters)

    def stream(self, first_sample: int = 0) -> AudioStream:
        """A fresh stream; see `AudioExtractor.stream`.

        Raises:
            ToolError: torchaudio cannot be imported.
        """
        _kaldi()
        return WindowedStream(
            self,
            first_sample,
            window=self._window,
            floor_db=self._silence_db,
            compute=self._compute,
        )

    def _compute(self, signal: NDArray[np.float32]) -> NDArray[np.float64]:
        import torch

        # Kaldi reads 16-bit samples as they are; its energy floor only makes sense at that scale.
        waveform = torch.from_numpy(np.array(signal, np.float32))[None] * 32768.0
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if self._device == "auto" else self._device
        kaldi = _kaldi()
        own: dict[str, Any] = {} if self._cepstra is None else {"num_ceps": self._cepstra}
        with torch.inference_mode():
            bands = (kaldi.fbank if self._cepstra is None else kaldi.mfcc)(
                waveform.to(chosen),
                num_mel_bins=self._mel_bins,
                frame_length=self._window / self.sample_rate_hz * 1000.0,
                frame_shift=self.hop_samples / self.sample_rate_hz * 1000.0,
                sample_frequency=float(self.sample_rate_hz),
                low_freq=_LOWEST_HZ,
                dither=0.0,
                **own,
            )
        return bands.cpu().numpy().astype(np.float64)  # type: ignore[no-any-return]


def _kaldi() -> Any:
    try:
        from torchaudio.compliance import kaldi
    except (ImportError, OSError) as error:
        raise ToolError(
            f"torchaudio cannot be imported ({error}): install torch==2.11.* and torchaudio==2.11.* from the same index"
        ) from error
    return kaldi
