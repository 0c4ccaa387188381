"""`LibrosaLLD`: low-level descriptors of the voice by librosa."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from extractors.base import AudioExtractor, AudioStream, check_range, make_spec
from extractors.speech.compiled import load_librosa
from extractors.speech.framing import Rows, WindowedStream, in_pieces
from extractors.speech.functionals import FunctionalsStream, functional_names

_SPECTRAL = (
    "zero_crossing_rate",
    "spectral_centroid_hz",
    "spectral_bandwidth_hz",
    "spectral_rolloff_hz",
    "spectral_flatness",
    "alpha_ratio_db",
    "hammarberg_index_db",
)
_CONTRAST_BANDS = 5
_CONTRAST_LOWEST_HZ = 200.0
_CONTRAST_SHARE = 0.02
_MEL_BANDS = 40
_DELTA_WIDTH = 9
_EPSILON = 1e-12


class LibrosaLLD(AudioExtractor):
    """Prosody, voice quality and spectrum of speech, one step per hop.

    Per window: mel-frequency cepstra and their first differences, energy, F0, voicing, harmonics-to-noise ratio and
    spectral shape. Windows are not centred: step `k` covers exactly the `window_seconds` from `k * hop_seconds`, and
    no value depends on sound outside it but the differences (±4 windows) and F0 of unvoiced steps.

    - **Energy**: root mean square in dB relative to full scale. Below `silence_db` a window gives no step.
    - **MFCC**: type-II cosine transform of the log mel spectrum (40 bands on the Slaney scale). Band power is floored
      80 dB under that of a full-scale sine, so that near-silence does not swing the differences.
    - **F0**: YIN (de Cheveigné & Kawahara 2002) between `lowest_hz` and `highest_hz`, in semitones relative to
      150 Hz, which lies between typical male and female voices. Steps that are not voiced have no F0; they are filled
      by straight lines between the voiced steps around them and by the nearest one at the ends, the usual
      convention for continuous F0 (as in Ghahremani et al. 2014, who also pair it with a voicing feature). A clip
      without any voiced step has 0, the reference. `voiced` says which is which.
    - **Voicing**: the normalised cross-correlation of the window with itself one YIN period later, `r` in [0, 1].
      `voiced` is `r > 0.45`, the threshold of Boersma (1993); `hnr_db` is his `10 log10(r / (1 - r))` with `r` held in
      [0.01, 0.999], so in [-20, 30] dB.
    - **Spectral shape**: librosa's definitions; `alpha_ratio_db` (energy 50–1000 Hz over 1–5 kHz) and
      `hammarberg_index_db` (strongest 0–2 kHz over strongest 2–5 kHz) follow Eyben et al. 2016 (GeMAPS), with the sign
      of the index; spectral contrast (Jiang et al. 2002) has 6 octave bands from 200 Hz, without librosa's limit that
      depends on the other windows.

    With `functionals_seconds`, a step is no window but a stretch of so many seconds, with mean, standard deviation and
    the 20th, 50th and 80th percentile of each of these (`extractors.speech.functionals`).

    pYIN would give smoother voicing decisions at several hundred times the cost.

    Args:
        window_seconds: length of a window; two periods of `lowest_hz` must fit.
        hop_seconds: from one window's start to the next's.
        mfcc_count: number of cepstral coefficients, from the 0th.
        lowest_hz: lowest F0 searched for.
        highest_hz: highest F0 searched for.
        silence_db: windows quieter than this give no step.
        functionals_seconds: statistics over stretches of this length in the place of the windows; None is the windows.

    Raises:
        ValueError: a parameter is out of its range, or two periods of `lowest_hz` do not fit in a window.

    Example:
        >>> LibrosaLLD(mfcc_count=13).names[:2]
        ('mfcc_0', 'mfcc_1')
    """

    REGISTRY_NAME = "speech.librosa"
    DEFINITION = 1
    rolling = True
    REFERENCE_HZ = 150.0
    VOICING_THRESHOLD = 0.45

    def __init__(
        self,
        *,
        window_seconds: float = 0.04,
        hop_seconds: float = 0.02,
        mfcc_count: int = 13,
        lowest_hz: float = 60.0,
        highest_hz: float = 500.0,
        silence_db: float = -60.0,
        functionals_seconds: float | None = None,
    ) -> None:
        check_range("window_seconds", window_seconds, 0.02, 0.2)
        check_range("hop_seconds", hop_seconds, 0.001, window_seconds)
        check_range("mfcc_count", mfcc_count, 1, _MEL_BANDS)
        check_range("lowest_hz", lowest_hz, 30.0, 300.0)
        check_range("highest_hz", highest_hz, lowest_hz * 1.5, 2000.0)
        check_range("silence_db", silence_db, -120.0, 0.0)
        if window_seconds * lowest_hz < 2.0:
            raise ValueError(
                f"two periods of lowest_hz={lowest_hz:g} take {2 / lowest_hz:.3f} s and do not fit in window_seconds="
                f"{window_seconds:g}: raise one of them"
            )
        self.sample_rate_hz = 16000
        self.hop_samples = round(hop_seconds * self.sample_rate_hz)
        self._window = round(window_seconds * self.sample_rate_hz)
        self._mfcc_count, self._lowest, self._highest = int(mfcc_count), float(lowest_hz), float(highest_hz)
        self._silence_db = float(silence_db)
        self.context_seconds = window_seconds + (_DELTA_WIDTH // 2) * hop_seconds
        self.names = (
            *(f"mfcc_{i}" for i in range(self._mfcc_count)),
            *(f"mfcc_{i}_delta" for i in range(self._mfcc_count)),
            "energy_db",
            "energy_delta_db",
            "f0_semitones",
            "voiced",
            "hnr_db",
            *_SPECTRAL,
            *(f"spectral_contrast_{i}_db" for i in range(_CONTRAST_BANDS + 1)),
        )
        parameters = {
            "window_seconds": window_seconds,
            "hop_seconds": hop_seconds,
            "mfcc_count": mfcc_count,
            "lowest_hz": lowest_hz,
            "highest_hz": highest_hz,
            "silence_db": silence_db,
        }
        self._descriptors: LibrosaLLD | None = None
        self._functionals_seconds = functionals_seconds
        if functionals_seconds is not None:
            check_range("functionals_seconds", functionals_seconds, 0.1, 60.0)
            self._descriptors = LibrosaLLD(**parameters)  # type: ignore[arg-type]
            self.names = functional_names(self.names)
            self.context_seconds += functionals_seconds
            # Only where it is set: what was extracted before there was such a thing stays what it is.
            parameters["functionals_seconds"] = functionals_seconds
        self.spec = make_spec(self.REGISTRY_NAME, "librosa", self.DEFINITION, parameters)

    def stream(self, first_sample: int = 0) -> AudioStream:
        """A fresh stream; see `AudioExtractor.stream`."""
        if self._descriptors is not None and self._functionals_seconds is not None:
            return FunctionalsStream(self._descriptors.stream(first_sample), self._functionals_seconds)
        return WindowedStream(
            self,
            first_sample,
            window=self._window,
            floor_db=self._silence_db,
            compute=self._compute,
            finish=self._finish,
        )

    def _compute(self, signal: NDArray[np.float32]) -> NDArray[np.float64]:
        """Rows of `mfcc | energy | f0_hz | r | spectral | contrast`, one per window."""
        librosa = load_librosa()
        windows = librosa.util.frame(signal, frame_length=self._window, hop_length=self.hop_samples)  # (W, T)
        hann = librosa.filters.get_window("hann", self._window)[:, None]
        magnitude = np.abs(np.fft.rfft(windows * hann, axis=0))  # (F, T)
        f0_hz, correlation = self._pitch(signal, windows)
        energy = 10.0 * np.log10(np.mean(windows.astype(np.float64) ** 2, axis=0) + _EPSILON)
        rows = [
            self._cepstra(magnitude),
            energy[None],
            f0_hz[None],
            correlation[None],
            self._spectral(signal, magnitude),
        ]
        return np.asarray(np.concatenate(rows).T)

    def _cepstra(self, magnitude: NDArray[np.float64]) -> NDArray[np.float64]:
        librosa = load_librosa()
        mel = librosa.feature.melspectrogram(
            S=magnitude**2, sr=self.sample_rate_hz, n_fft=self._window, n_mels=_MEL_BANDS
        )
        # A full-scale sine under a Hann window of W samples peaks at (W / 4)² in the power spectrum.
        floor = (self._window / 4) ** 2 * 1e-8
        log_mel = librosa.power_to_db(mel, amin=floor, top_db=None)
        return np.asarray(librosa.feature.mfcc(S=log_mel, n_mfcc=self._mfcc_count), np.float64)

    def _pitch(
        self, signal: NDArray[np.float32], windows: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """F0 in Hz and the normalised cross-correlation at its period, per window."""
        librosa = load_librosa()
        f0_hz = librosa.yin(
            signal,
            fmin=self._lowest,
            fmax=self._highest,
            sr=self.sample_rate_hz,
            frame_length=self._window,
            hop_length=self.hop_samples,
            center=False,
        )
        f0_hz = np.clip(f0_hz, self._lowest, self._highest)
        period = self.sample_rate_hz / f0_hz
        below, above = np.floor(period).astype(int), np.ceil(period).astype(int)
        correlation = np.maximum(_lag_correlation(windows, below), _lag_correlation(windows, above))
        return f0_hz, np.clip(correlation, 0.0, 1.0)

    def _spectral(self, signal: NDArray[np.float32], magnitude: NDArray[np.float64]) -> NDArray[np.float64]:
        librosa = load_librosa()
        rate, length, hop = self.sample_rate_hz, self._window, self.hop_samples
        power = magnitude**2
        hz = np.fft.rfftfreq(length, 1 / rate)
        low, high = (hz >= 50) & (hz < 1000), (hz >= 1000) & (hz < 5000)
        alpha = _ratio_db(power[low].sum(axis=0), power[high].sum(axis=0))
        hammarberg = _ratio_db(power[hz < 2000].max(axis=0), power[(hz >= 2000) & (hz < 5000)].max(axis=0))
        feature = librosa.feature
        return np.concatenate(
            [
                feature.zero_crossing_rate(signal, frame_length=length, hop_length=hop, center=False),
                feature.spectral_centroid(S=magnitude, sr=rate),
                feature.spectral_bandwidth(S=magnitude, sr=rate),
                feature.spectral_rolloff(S=magnitude, sr=rate),
                feature.spectral_flatness(S=magnitude),
                alpha[None],
                hammarberg[None],
                self._contrast(magnitude, hz),
            ]
        )

    def _contrast(self, magnitude: NDArray[np.float64], hz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Spectral contrast, `(6, T)`: mean of the strongest over mean of the weakest 2 % of each octave band.

        librosa's own function limits its decibels by the loudest value of all windows it is given, so that a window's
        result would depend on the others; here the limit is fixed.
        """
        edges = [0.0, *(_CONTRAST_LOWEST_HZ * 2.0**k for k in range(_CONTRAST_BANDS + 1))]
        floor = self._window / 4 * 1e-4
        contrasts = []
        for k, (low, high) in enumerate(itertools.pairwise(edges)):
            last = k == _CONTRAST_BANDS
            first, after = np.searchsorted(hz, low), len(hz) if last else np.searchsorted(hz, high, side="right")
            first -= k > 0
            count = max(1, round(_CONTRAST_SHARE * (after - first)))
            band = np.sort(magnitude[first : after if last else after - 1], axis=0)
            peak, valley = band[-count:].mean(axis=0), band[:count].mean(axis=0)
            contrasts.append(10.0 * np.log10(np.maximum(peak, floor) / np.maximum(valley, floor)))
        return np.stack(contrasts)

    def _finish(self, rows: Rows, loud: NDArray[np.bool_]) -> NDArray[np.float32]:
        """From per-window rows to features: differences, F0 in semitones, voicing."""
        librosa = load_librosa()
        count, reach = self._mfcc_count, _DELTA_WIDTH // 2
        f0_hz, r = rows.column(count + 1), rows.column(count + 2)
        voiced = (r > self.VOICING_THRESHOLD) & loud
        pitch = _continuous(12.0 * np.log2(f0_hz / self.REFERENCE_HZ), voiced)
        held = np.clip(r, 0.01, 0.999)
        periodicity = 10.0 * np.log10(held / (1.0 - held))

        def piece(first: int, after: int) -> NDArray[np.float64]:
            start = max(0, first - reach)
            own = slice(first - start, after - start)
            around = rows.between(start, after + reach)
            with_energy = around[:, : count + 1].copy()
            with_energy[:, count] = np.maximum(with_energy[:, count], self._silence_db)
            delta = librosa.feature.delta(with_energy, width=_DELTA_WIDTH, axis=0, mode="nearest")
            columns = [
                around[:, :count],
                delta[:, :count],
                around[:, count : count + 1],
                delta[:, count:],
            ]
            whole = [values[first:after, None] for values in (pitch, voiced.astype(np.float64), periodicity)]
            return np.concatenate([*(part[own] for part in columns), *whole, around[own, count + 3 :]], axis=1)

        return in_pieces(rows, loud, piece, reach=reach)


def _lag_correlation(windows: NDArray[np.float32], lags: NDArray[np.int_]) -> NDArray[np.float64]:
    """Normalised cross-correlation of each window `(W, T)` with itself `lags` samples later: `(T,)`."""
    result = np.zeros(windows.shape[1])
    for lag in np.unique(lags):
        mine = lags == lag
        part = windows[:, mine].astype(np.float64)
        head, tail = part[:-lag], part[lag:]
        energy = np.einsum("wt,wt->t", head, head) * np.einsum("wt,wt->t", tail, tail)
        result[mine] = np.einsum("wt,wt->t", head, tail) / np.sqrt(energy + _EPSILON**2)
    return result


def _ratio_db(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ratio in dB, held within ±60 dB so that an empty band stays finite."""
    return np.clip(10.0 * np.log10((above + _EPSILON) / (below + _EPSILON)), -60.0, 60.0)


def _continuous(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Straight lines between the known values, the nearest one beyond them, 0 where none is known."""
    if not known.any():
        return np.zeros_like(values)
    at = np.arange(len(values))
    return np.interp(at, at[known], values[known])
