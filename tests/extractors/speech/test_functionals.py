"""Statistics by hand, and the same for segments and windows as for the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import extractors
from extractors.sequence import FeatureSequence
from extractors.speech.functionals import STATISTICS, summarise
from extractors.speech.librosa_lld import LibrosaLLD


def test_statistics_by_hand() -> None:
    """Two stretches, nothing in the second second, and a step belongs to where its middle lies."""
    times = np.array([[0.0, 0.4], [0.2, 0.6], [0.8, 1.0], [1.8, 2.4]])
    sequence = FeatureSequence(np.array([[1.0], [2.0], [6.0], [5.0]], np.float32), times, ("x",))
    found = summarise(sequence, 1.0)
    assert found.names == ("x_mean", "x_std", "x_p20", "x_p50", "x_p80")
    assert found.times.tolist() == [[0.0, 1.0], [1.8, 2.4]]
    # Of 1, 2, 6: linear interpolation at 0.4 and 1.6 of the way from the first to the third.
    assert np.allclose(found.values[0], [3.0, np.sqrt(14 / 3), 1.4, 2.0, 4.4])
    assert np.allclose(found.values[1], [5.0, 0.0, 5.0, 5.0, 5.0])
    assert len(summarise(sequence.between(9.0, 10.0), 1.0)) == 0


def test_of_librosa_s_descriptors(write_wav: Callable[..., Path], make_tone: Callable[..., np.ndarray]) -> None:
    """Whole file, segment and windows: stretches at their edges are whole, so they are the same numbers."""
    sound = np.concatenate([make_tone(2.3, 16000), np.zeros(16000, np.float32), make_tone(3.0, 16000, hz=170.0)])
    path, audio = write_wav("a.wav", sound), {"audio": LibrosaLLD(functionals_seconds=0.5)}
    whole = extractors.extract(path, audio).sequences["audio"]
    plain = extractors.extract(path, {"audio": LibrosaLLD()}).sequences["audio"]
    assert whole.dim == plain.dim * len(STATISTICS)
    energies = plain.between(1.0, 1.5).values[:, plain.names.index("energy_db")]
    row = int(np.flatnonzero(whole.times[:, 0] >= 0.99)[0])
    assert whole.values[row, whole.names.index("energy_db_mean")] == pytest.approx(energies.mean(), abs=1e-3)
    assert whole.values[row, whole.names.index("energy_db_p80")] == pytest.approx(np.percentile(energies, 80), abs=1e-3)
    assert not ((whole.times[:, 0] > 2.4) & (whole.times[:, 1] < 3.2)).any()
    spans = [(0.3, 1.6), (1.0, 2.0), (4.1, 5.2)]
    for (start, end), window in zip(spans, extractors.extract_windows(path, audio, spans), strict=True):
        segment = extractors.extract(path, audio, start_seconds=start, end_seconds=end).sequences["audio"]
        assert len(segment) >= 2
        assert np.allclose(window.extraction.sequences["audio"].values, segment.values, atol=1e-3)
        assert np.allclose(segment.times, whole.between(start, end).times)


def test_the_spec_says_so_only_where_it_is_asked_for() -> None:
    asked = LibrosaLLD(functionals_seconds=1.0)
    assert extractors.rebuild(asked.spec).names == asked.names
    assert "functionals_seconds" not in LibrosaLLD().spec.parameters
    with pytest.raises(ValueError, match=r"functionals_seconds must be a number from 0\.1 to 60, not 0"):
        LibrosaLLD(functionals_seconds=0)
