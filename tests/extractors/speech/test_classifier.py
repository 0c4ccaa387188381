"""`SpeechClassifier` on tiny classifiers that are built and saved here, against plain forward passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import extractors
from extractors.speech.classifier import SpeechClassifier

LABELS = ("neu", "hap", "ang", "sad")
RATE = 16000


@pytest.fixture(scope="module")
def folder(save_classifier: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier("audio", tmp_path_factory.mktemp("audio") / "m", LABELS)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """Five and a half seconds whose spectrum changes, with the second from 2 to 3 silent."""
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, round(5.5 * RATE)).cumsum()
    sound = 0.2 * np.sin(sound / (1 + np.arange(len(sound)) / RATE))
    sound[2 * RATE : 3 * RATE] = 0.0
    return sound.astype(np.float32)


def naive(folder: Path, piece: np.ndarray) -> np.ndarray:
    prepare = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModelForAudioClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(**prepare(piece, sampling_rate=RATE, return_tensors="pt")).logits
    return logits.softmax(-1).numpy()[0]


def pushed(extractor: SpeechClassifier, sound: np.ndarray, block: int) -> extractors.FeatureSequence:
    stream = extractor.stream()
    for start in range(0, len(sound), block):
        stream.push(sound[start : start + block])
    return stream.finish()


def test_pieces_equal_plain_forward_passes(folder: Path, noise: np.ndarray) -> None:
    """Pieces of one second; the silent one gives no step, the last half second is classified on its own."""
    extractor = extractors.build("speech.classifier", model=str(folder), piece_seconds=1)
    assert isinstance(extractor, SpeechClassifier)
    found = pushed(extractor, noise, 1000)
    assert found.times.tolist() == [[0, 1], [1, 2], [3, 4], [4, 5], [5, 5.5]]
    expected = [naive(folder, noise[round(a * RATE) : round(b * RATE)]) for a, b in found.times]
    assert np.allclose(found.values, expected, atol=1e-5)
    assert np.ptp(found.values, axis=0).max() > 1e-3


@pytest.mark.parametrize(("batch_size", "block"), [(1, 16000), (3, 777), (16, 100000)])
def test_batches_and_blocks_change_nothing(folder: Path, noise: np.ndarray, batch_size: int, block: int) -> None:
    usual = pushed(SpeechClassifier(model=str(folder), piece_seconds=1), noise, 5000)
    found = pushed(SpeechClassifier(model=str(folder), piece_seconds=1, batch_size=batch_size), noise, block)
    assert np.array_equal(found.times, usual.times)
    assert np.allclose(found.values, usual.values, atol=1e-5)


def test_sound_is_let_go_of_as_pieces_are_whole(folder: Path) -> None:
    """Ten minutes: never more is held than a batch of pieces and a block."""
    extractor = SpeechClassifier(model=str(folder), piece_seconds=2, batch_size=1, silence_db=-20)
    stream = extractor.stream()
    held = []
    for _ in range(120):
        stream.push(np.full(5 * RATE, 1e-3, np.float32))
        held.append(sum(map(len, stream._held)))  # type: ignore[attr-defined]
    assert max(held) <= 7 * RATE
    assert len(stream.finish()) == 0
    assert stream.missing_reason() == "silent"


def test_too_little_sound(folder: Path) -> None:
    extractor = SpeechClassifier(model=str(folder))
    stream = extractor.stream()
    stream.push(np.ones(RATE // 4, np.float32))
    assert len(stream.finish()) == 0
    assert stream.missing_reason() == "only 0.25 s of sound, less than the 0.5 s that are classified"


def test_windows_get_what_a_clip_of_that_stretch_gets(
    folder: Path, media: Callable[..., Path], noise: np.ndarray
) -> None:
    """Through a file of another sampling rate, in one pass and one by one; windows overlap, and one is silent."""
    path = media("talk.mkv", samples=np.repeat(noise, 3), rate=48000, audio_codec="flac")
    audio = {"audio": SpeechClassifier(model=str(folder), piece_seconds=1)}
    spans = [(0.0, 1.7), (0.5, 2.6), (2.1, 2.9), (2.1, 5.2), (3.0, 9.0)]
    windows = list(extractors.extract_windows(path, audio, spans))
    assert [len(w.extraction.sequences["audio"]) for w in windows] == [2, 2, 0, 3, 3]
    assert windows[2].extraction.missing == {"audio": "silent"}
    for window, (start, end) in zip(windows, spans, strict=True):
        alone = extractors.extract(path, audio, start_seconds=start, end_seconds=end).sequences["audio"]
        found = window.extraction.sequences["audio"]
        assert np.allclose(found.times, alone.times, atol=1e-9)
        assert np.allclose(found.values, alone.values, atol=1e-4)


def test_windows_need_no_more_memory_than_they_are_long(folder: Path) -> None:
    stream = SpeechClassifier(model=str(folder)).stream()
    stream.expect_windows()
    for second in range(30):
        stream.push(np.zeros(RATE, np.float32))
        stream.forget(second - 2.5)
        assert sum(map(len, stream._held)) <= 3.5 * RATE  # type: ignore[attr-defined]


def test_the_spec_rebuilds_the_extractor(folder: Path) -> None:
    extractor = SpeechClassifier(model=str(folder), piece_seconds=4)
    again = extractors.rebuild(extractors.ExtractorSpec.from_json(extractor.spec.to_json()))
    assert again.spec == extractor.spec
    assert again.spec.fingerprint != SpeechClassifier(model=str(folder)).spec.fingerprint
    assert SpeechClassifier(model=str(folder), piece_seconds=4, batch_size=1).spec == extractor.spec


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"piece_seconds": 100}, "piece_seconds must be a number from 1 to 60, not 100"),
        ({"shortest_seconds": 20}, "shortest_seconds must be a number from 0.1 to 10, not 20"),
        ({"batch_size": 0}, "batch_size must be a number from 1 to 4096, not 0"),
    ],
)
def test_parameters_are_checked(folder: Path, parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpeechClassifier(model=str(folder), **parameters)
