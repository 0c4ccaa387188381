"""`TransformerAudio` on tiny encoders that are built and saved here, against plain forward passes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import extractors
from extractors.speech.transformer import TransformerAudio

WAVES = ("wav2vec2", "large", "hubert", "wavlm", "data2vec")
Folders = Callable[..., Path]
Voice = Callable[..., np.ndarray]


def naive(folder: Path, samples: np.ndarray) -> list[np.ndarray]:
    """Every hidden state of one stretch of sound, `(T, D)` each."""
    prepare = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    if model.config.model_type == "whisper":
        model = model.encoder
    inputs = prepare(samples, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        output = model(inputs[prepare.model_input_names[0]], output_hidden_states=True)
    return [state[0].numpy() for state in (*output.hidden_states[:-1], output.last_hidden_state)]


@pytest.mark.parametrize("kind", WAVES)
def test_short_sound_equals_a_plain_forward_pass(audio_model: Folders, voice: Voice, kind: str) -> None:
    samples = voice(1.3)
    states = naive(audio_model(kind), samples)
    assert len(states) == 3
    for layer in (-1, 0, 1):
        found = TransformerAudio(model=str(audio_model(kind)), layer=layer).extract_samples(samples)
        assert np.allclose(found.values, states[layer], atol=1e-5)
        assert np.std(found.values, axis=0).mean() > 1e-3  # the steps differ: something was heard
    steps = np.arange((len(samples) - 400) // 320 + 1)
    assert np.allclose(found.times, np.stack([steps * 320, steps * 320 + 400], axis=1) / 16000)


def test_whisper_equals_its_encoder_and_ends_with_the_sound(audio_model: Folders, voice: Voice) -> None:
    samples = voice(1.305)  # 20880 samples: the last step's middle is at 20800
    extractor = TransformerAudio(model=str(audio_model("whisper")), overlap_seconds=1.0)
    found = extractor.extract_samples(samples)
    assert len(found) == 66
    assert np.allclose(found.values, naive(audio_model("whisper"), samples)[-1][:66], atol=1e-5)
    assert np.allclose(found.times[:2], [[0.0, 0.01], [0.01, 0.03]])
    assert extractor.spec.parameters["chunk_seconds"] == 4.0


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
def test_layers_are_weighed(audio_model: Folders, voice: Voice, kind: str) -> None:
    samples = voice(0.7)
    states = naive(audio_model(kind), samples)
    count = len(TransformerAudio(model=str(audio_model(kind)), overlap_seconds=1.0).extract_samples(samples))
    for layer, weights in (("mean", [1, 1, 1]), ([1, 0, 3], [1, 0, 3])):
        extractor = TransformerAudio(model=str(audio_model(kind)), layer=layer, overlap_seconds=1.0)
        expected = np.average(np.stack(states), axis=0, weights=weights)[:count]
        assert np.allclose(extractor.extract_samples(samples).values, expected, atol=1e-5)


def test_an_impulse_changes_exactly_the_steps_that_cover_it(audio_model: Folders, voice: Voice) -> None:
    """Without normalisation over time, and before any attention: what the convolutions see is what the times say."""
    folder = audio_model("large", num_conv_pos_embeddings=1, num_conv_pos_embedding_groups=1)
    extractor = TransformerAudio(model=str(folder), layer=0, chunk_seconds=2.0, overlap_seconds=0.5)
    samples = voice(5.0)
    before = extractor.extract_samples(samples)
    for at in (399, 400, 16000, 31999, 47777, 79999):
        struck = samples.copy()
        struck[at] += 5.0
        changed = np.abs(extractor.extract_samples(struck).values - before.values).max(axis=1) > 1e-6
        covers = (before.times[:, 0] <= at / 16000) & (at / 16000 < before.times[:, 1])
        assert changed.tolist() == covers.tolist()


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
def test_long_sound_is_read_in_chunks_of_the_documented_grid(audio_model: Folders, voice: Voice, kind: str) -> None:
    """9 s in chunks of 3 s with 1 s overlap: each step from the chunk in which it is furthest from an inner edge."""
    samples = voice(9.0)
    extractor = TransformerAudio(model=str(audio_model(kind)), chunk_seconds=3.0, overlap_seconds=1.0, batch_size=3)
    found = extractor.extract_samples(samples)
    for first, last, owned in (
        (0.0, 2.5, (0.0, 2.0)),
        (1.5, 4.5, (2.0, 4.0)),
        (5.5, 8.5, (6.0, 8.0)),
        (7.5, 9.0, (8.0, 9.1)),
    ):
        states = naive(audio_model(kind), samples[round(first * 16000) : round(last * 16000)])[-1]
        part = found.between(*owned)
        skipped = round((part.times[-1].mean() - found.times[0].mean() - first) / 0.02) + 1 - len(part)
        assert np.allclose(part.values, states[skipped : skipped + len(part)], atol=1e-5)


@pytest.mark.parametrize("batch_size", [2, 16])
@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
def test_batches_change_nothing(audio_model: Folders, voice: Voice, kind: str, batch_size: int) -> None:
    samples, lengths = voice(14.3), {"chunk_seconds": 2.0, "overlap_seconds": 0.5}
    one = TransformerAudio(model=str(audio_model(kind)), batch_size=1, **lengths).extract_samples(samples)
    many = TransformerAudio(model=str(audio_model(kind)), batch_size=batch_size, **lengths).extract_samples(samples)
    assert np.array_equal(one.times, many.times)
    assert np.allclose(one.values, many.values, atol=1e-5)


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
def test_a_segment_and_a_window_get_what_the_whole_file_has(
    audio_model: Folders, voice: Voice, write_wav: Callable[..., Path], kind: str
) -> None:
    """Through the decoder: segments by `extract`, and windows of one pass."""
    path = write_wav("talk.wav", voice(12.0))
    audio = {"audio": TransformerAudio(model=str(audio_model(kind)), chunk_seconds=2.0, overlap_seconds=0.5)}
    whole = extractors.extract(path, audio).sequences["audio"]
    spans = [(0.0, 1.0), (3.3, 5.7), (5.0, 5.1), (11.0, 12.0)]
    windows = extractors.extract_windows(path, audio, spans)
    for (start, end), window in zip(spans, windows, strict=True):
        expected = whole.between(start, end)
        segment = extractors.extract(path, audio, start_seconds=start, end_seconds=end).sequences["audio"]
        for found in (segment, window.extraction.sequences["audio"]):
            assert np.array_equal(found.times, expected.times)
            assert np.allclose(found.values, expected.values, atol=1e-4)


def test_silence_gives_no_step_and_is_averaged_into_none(audio_model: Folders, voice: Voice) -> None:
    extractor = TransformerAudio(model=str(audio_model("wav2vec2")), chunk_seconds=2.0, overlap_seconds=0.5)
    samples = voice(9.0)
    samples[32000:112000] = 0.0
    found = extractor.extract_samples(samples)
    assert not ((found.times[:, 0] >= 2.0) & (found.times[:, 1] <= 7.0)).any()
    assert found.times[-1, 1] == pytest.approx(9.0, abs=0.02)
    assert len(extractor.extract_samples(np.zeros(32000, np.float32))) == 0


def test_the_spec_rebuilds_the_same_extractor(audio_model: Folders, voice: Voice, tmp_path: Path) -> None:
    extractor = TransformerAudio(
        model=str(audio_model("wavlm")), layer=[1, 2, 3], chunk_seconds=2.0, overlap_seconds=0.5
    )
    moved = shutil.copytree(audio_model("wavlm"), tmp_path / "moved")
    spec = extractors.ExtractorSpec.from_json(extractor.spec.to_json())
    again = extractors.rebuild(spec, model=str(moved))
    assert again.spec == extractor.spec
    assert again.spec.fingerprint == extractor.spec.fingerprint
    assert np.array_equal(again.extract_samples(voice(3.0)).values, extractor.extract_samples(voice(3.0)).values)
    other = TransformerAudio(model=str(moved), layer=[1, 2, 4], chunk_seconds=2.0, overlap_seconds=0.5)
    assert other.spec.fingerprint != extractor.spec.fingerprint


def test_what_is_no_audio_encoder_is_refused(tmp_path: Path) -> None:
    transformers.BertConfig(hidden_size=8).save_pretrained(tmp_path)
    with pytest.raises(extractors.ToolError, match=r"type 'bert' is no audio encoder .*give wav2vec 2.0"):
        TransformerAudio(model=str(tmp_path))


def test_a_folder_without_its_feature_extractor_is_refused(audio_model: Folders, tmp_path: Path) -> None:
    folder = shutil.copytree(audio_model("wav2vec2"), tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(extractors.ToolError, match="the feature extractor cannot be loaded from the folder"):
        TransformerAudio(model=str(folder))


def test_weights_that_would_be_random_are_refused(audio_model: Folders, tmp_path: Path) -> None:
    folder = shutil.copytree(audio_model("wav2vec2"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(extractors.ToolError, match=r"its weights lack encoder\.layers\.2\..* which would be random"):
        TransformerAudio(model=str(folder)).stream()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"layer": 3}, r"layer must be a whole number from -3 to 2 \(this model has 2 layers\), 'mean', or 3 weights"),
        ({"layer": [1, 1]}, "or 3 weights that are not negative and not all 0, not \\[1, 1\\]"),
        ({"layer": [0, 0, 0]}, "not all 0"),
        ({"layer": "last"}, "not 'last'"),
        ({"chunk_seconds": 500}, "chunk_seconds must be a number from 1 to 120, not 500"),
        ({"chunk_seconds": 4, "overlap_seconds": 3}, "overlap_seconds must be a number from 0.08 to 2, not 3"),
        ({"batch_size": 0}, "batch_size must be a number from 1 to 4096, not 0"),
    ],
)
def test_parameters_are_checked(audio_model: Folders, parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerAudio(model=str(audio_model("wav2vec2")), **parameters)
