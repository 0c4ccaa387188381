"""Tiny audio models with random weights, saved as transformers saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
WHISPER = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "vocab_size": 50, "max_source_positions": 200, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3,
}  # fmt: skip
WHISPER_SECONDS = 4


def _make(kind: str, folder: Path, **changes: object) -> None:
    import torch
    import transformers as t

    torch.manual_seed(sum(map(ord, kind)))
    sizes = {**SIZES, **changes}
    if kind == "whisper":
        model = t.WhisperForConditionalGeneration(t.WhisperConfig(**{**WHISPER, **changes}))
        prepare = t.WhisperFeatureExtractor(feature_size=80, chunk_length=WHISPER_SECONDS)
    else:
        classes = {
            "wav2vec2": (t.Wav2Vec2Model, t.Wav2Vec2Config),
            "large": (t.Wav2Vec2Model, t.Wav2Vec2Config),
            "hubert": (t.HubertModel, t.HubertConfig),
            "wavlm": (t.WavLMModel, t.WavLMConfig),
            "data2vec": (t.Data2VecAudioModel, t.Data2VecAudioConfig),
        }
        model_class, config_class = classes[kind]
        if kind == "large":  # normalised per step and before each layer, as the larger models are
            sizes = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True, **sizes}
        model = model_class(config_class(**sizes))
        prepare = t.Wav2Vec2FeatureExtractor(do_normalize=kind not in {"hubert", "large"})
    with torch.no_grad():  # as they start, these networks hardly tell one sound from another
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0 if "conv" in name else 2.0)
    model.save_pretrained(folder)
    prepare.save_pretrained(folder)


@pytest.fixture(scope="session")
def audio_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`audio_model(kind, **configuration)`: where such a model is saved, made once."""
    made: dict[str, Path] = {}

    def folder(kind: str, **changes: object) -> Path:
        key = f"{kind}{sorted(changes.items())}"
        if key not in made:
            made[key] = tmp_path_factory.mktemp(kind)
            _make(kind, made[key], **changes)
        return made[key]

    return folder


def _voice(seconds: float, rate: int = 16000, seed: int = 0) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return (0.2 * np.sin(2 * np.pi * (150 + 60 * np.sin(t)) * t) + 0.05 * noise).astype(np.float32)


@pytest.fixture
def voice() -> Callable[..., np.ndarray]:
    """`voice(seconds)`: a gliding tone in noise, no two stretches alike."""
    return _voice
