"""`TransformerAudio`: hidden states of a pretrained audio encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors import pretrained
from extractors.base import AudioExtractor, AudioStream, check_range, make_spec
from extractors.errors import ToolError
from extractors.speech.chunks import ChunkedStream, Chunks, Frames, context_seconds

CHUNK_SECONDS = 20.0
# Weights that only training reads: the vector that SpecAugment puts in the place of masked steps.
_TRAINING_ONLY = ("masked_spec_embed",)


class TransformerAudio(AudioExtractor):
    """One step per frame of any wav2vec 2.0-like or Whisper encoder: a layer, or a weighted sum of all of them.

    - **wav2vec 2.0, HuBERT, WavLM, data2vec-audio, UniSpeech(-SAT)** and what else reads the waveform through a stack
      of convolutions: step `k` covers the samples `[k * hop, k * hop + field)` that those convolutions see: every
      20 ms, 25 ms long, for all published ones. The waveform is prepared as the model's feature extractor says.
    - **Whisper**'s encoder: step `k` covers the 20 ms around `k * 20 ms`. The log-mel windows and two convolutions
      behind it see 32.5 ms to either side. Whisper always reads 30 s; what is shorter is filled up with zeros as in
      its training, and steps beyond the sound are dropped.

    **Long sound** is read in chunks of `chunk_seconds` that overlap by `overlap_seconds`; a step is taken from the
    chunk in which it stands furthest from an inner edge. Chunks lie on a grid counted from the media's beginning, and a
    segment is decoded with the sound around it (a chunk's length to either side): it gets the numbers that the whole
    file has there, up to rounding and to what a decoder does after a seek. Beyond that nothing holds: every step sees
    all of its chunk (by attention, and by the normalisation of the waveform), so a clip that was cut out and saved as a
    file of its own has other sound around its steps, and other numbers. Memory does not grow with the file.

    Chunks of one length are encoded together and never padded, so nothing is averaged over padding and `batch_size`
    changes no value beyond rounding. Steps whose root mean square lies below `silence_db` are left out.

    Weights are read from safetensors only: a pickle could run code.

    Args:
        model: a model id of the Hugging Face hub, or a local folder with `config.json`, `model.safetensors` and
            `preprocessor_config.json`; `"package:NAME/FOLDER"` is such a folder inside the installed package `NAME`.
        revision: commit, tag or branch of the hub model; resolved to its commit in the spec.
        weights_sha256: what the hash of the local folder must be; filled in when left out. The spec identifies a local
            model by it and not by its path.
        layer: index into the hidden states, 0 being what enters the first layer and -1 what the encoder gives, behind
            its last normalisation; `"mean"` of all of them; or a list with a weight for each, which are divided by
            their sum (as in SUPERB, Yang et al. 2021).
        chunk_seconds: length of a chunk with its overlaps; None is 20 s, and 30 s for Whisper, which takes no more.
        overlap_seconds: by how much neighbouring chunks overlap.
        silence_db: steps quieter than this, in dB relative to full scale, are left out.
        batch_size: chunks per forward pass; changes speed and memory only.
        device: `"auto"` (CUDA where there is one), or a torch device; changes speed only.

    Raises:
        ValueError: a parameter is out of its range or does not fit the model.
        ToolError: transformers is missing; the model cannot be had or is no audio encoder of these kinds; or the folder
            is not the one the hash names.
    """

    REGISTRY_NAME = "speech.transformers"
    DEFINITION = 1
    uses_gpu = True
    rolling = True

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        weights_sha256: str | None = None,
        layer: int | str | Sequence[float] = -1,
        chunk_seconds: float | None = None,
        overlap_seconds: float = 5.0,
        silence_db: float = -60.0,
        batch_size: int = 8,
        device: str = "auto",
    ) -> None:
        check_range("batch_size", batch_size, 1, 4096)
        check_range("silence_db", silence_db, -120.0, 0.0)
        found = pretrained.find(model, revision, weights_sha256)
        self._source, self._device = found.source, device
        self._kind = read_kind(found.config, found.source)
        seconds = self._kind.default_seconds if chunk_seconds is None else chunk_seconds
        self.sample_rate_hz, self.hop_samples = self._kind.rate, self._kind.frames.hop
        self._chunks = make_chunks(self._kind, seconds, overlap_seconds)
        self.context_seconds = context_seconds(self._chunks, self.sample_rate_hz)
        self._weights = _layer_weights(layer, self._kind.layers)
        self._silence_db, self._batch_size = float(silence_db), int(batch_size)
        self._encoder: _Encoder | None = None
        self.names = tuple(f"hidden_{i}" for i in range(self._kind.width))
        parameters = {
            **found.identity,
            "layer": layer if isinstance(layer, int | str) else [float(weight) for weight in layer],
            "chunk_seconds": seconds,
            "overlap_seconds": overlap_seconds,
            "silence_db": silence_db,
        }
        self.spec = make_spec(self.REGISTRY_NAME, "transformers", self.DEFINITION, parameters, found.hints)

    def stream(self, first_sample: int = 0) -> AudioStream:
        """A fresh stream; the first one loads the model.

        Raises:
            ToolError: the weights cannot be had, or lack some.
        """
        if self._encoder is None:
            self._encoder = _Encoder(self._source, self._kind, self._weights, self._device)
        return ChunkedStream(
            self,
            first_sample,
            frames=self._kind.frames,
            chunks=self._chunks,
            encode=self._encoder.encode,
            silence_db=self._silence_db,
            batch_size=self._batch_size,
        )


@dataclass(frozen=True)
class Kind:
    """What is known of an encoder without its weights.

    Attributes:
        prepare: transformers' feature extractor.
        rate: samples per second that it reads.
        frames: where its steps lie.
        layers: how many hidden states it has, the one before the first layer included.
        width: of a step.
        default_seconds: length of a chunk where none is given.
        longest_seconds: the longest chunk that it takes.
        mel: whether it is Whisper's, which reads log-mel windows of one length.
    """

    prepare: Any
    rate: int
    frames: Frames
    layers: int
    width: int
    default_seconds: float
    longest_seconds: float
    mel: bool


def read_kind(config: Any, source: pretrained.Source) -> Kind:
    """What an encoder reads and gives, from its configuration and that of its feature extractor.

    Raises:
        ToolError: it is none that is known here, or its feature extractor cannot be had.
    """
    mel, strides, kernels = (
        config.model_type == "whisper",
        *(tuple(getattr(config, name, None) or ()) for name in ("conv_stride", "conv_kernel")),
    )
    if not mel and (not strides or len(strides) != len(kernels)):
        raise ToolError(
            f"{source.name}: a model of the type {config.model_type!r} is no audio encoder that is known here: give "
            "wav2vec 2.0, HuBERT, WavLM, data2vec-audio (or another that reads the waveform by convolutions) or Whisper"
        )
    prepare = pretrained.load("feature extractor", "AutoFeatureExtractor", source)
    rate = int(prepare.sampling_rate)
    if mel:
        hop = 2 * int(prepare.hop_length)  # the second convolution halves the rate
        longest = config.max_source_positions * hop / rate
        frames = Frames(hop, width=hop, needs=1, offset=-(hop // 2))
        return Kind(prepare, rate, frames, config.encoder_layers + 1, config.d_model, longest, longest, mel=True)
    hop, field = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field += (kernel - 1) * hop
        hop *= stride
    frames = Frames(hop, width=field, needs=field)
    count = config.num_hidden_layers + 1
    return Kind(prepare, rate, frames, count, config.hidden_size, CHUNK_SECONDS, math.inf, mel=False)


def make_chunks(kind: Kind, chunk_seconds: float, overlap_seconds: float) -> Chunks:
    """The chunks of these lengths, rounded to steps of the encoder.

    Raises:
        ValueError: a length is out of its range.
    """
    step = kind.frames.hop / kind.rate
    check_range("chunk_seconds", chunk_seconds, min(1.0, kind.longest_seconds), min(120.0, kind.longest_seconds))
    least = 2 * math.ceil(kind.frames.width / kind.frames.hop) * step
    check_range("overlap_seconds", overlap_seconds, least, chunk_seconds / 2)
    length, context = math.floor(chunk_seconds / step + 1e-9), round(overlap_seconds / 2 / step)
    return Chunks(length * kind.frames.hop, context * kind.frames.hop)


class _Encoder:
    """A model, loaded."""

    def __init__(self, source: pretrained.Source, kind: Kind, weights: NDArray[np.float32], device: str) -> None:
        import torch

        self._torch, self._kind, self._name = torch, kind, source.name
        model = pretrained.load_weights("AutoModel", source, unused=self._unused)
        self._chosen = pretrained.chosen_device(device)
        self._model = (model.get_encoder() if kind.mel else model).to(self._chosen)
        self._weights = torch.from_numpy(weights).to(self._chosen)
        self._used = [int(i) for i in np.flatnonzero(weights)]

    def encode(self, chunks: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Chunks of one length → `(T, D)` each."""
        torch, kind = self._torch, self._kind
        count = kind.frames.count(len(chunks[0]))
        # Each by itself: transformers' feature extractors normalise over the padding of a batch, or need a mask for it.
        prepared = [
            kind.prepare(np.asarray(chunk), sampling_rate=kind.rate, return_tensors="np")[
                kind.prepare.model_input_names[0]
            ]
            for chunk in chunks
        ]
        batch = torch.from_numpy(np.concatenate(prepared).astype(np.float32)).to(self._chosen)
        with torch.inference_mode():
            output = self._model(batch, output_hidden_states=True)
            # Some models (wav2vec 2.0's larger ones) list their last state as it is before the last normalisation.
            states = [*output.hidden_states[:-1], output.last_hidden_state]
            mixed = sum(self._weights[i] * states[i] for i in self._used)
        values = mixed.float().cpu().numpy()
        if values.shape[1] < count or (values.shape[1] > count and not kind.mel):
            raise ToolError(
                f"{self._name}: gives {values.shape[1]} steps for {len(chunks[0])} samples, where its convolutions "
                f"announce {count}: it is no encoder that can be used here"
            )
        return [np.ascontiguousarray(one[:count]) for one in values]

    def _unused(self, key: str) -> bool:
        return key.endswith(_TRAINING_ONLY) or (self._kind.mel and not key.startswith("encoder."))


def _layer_weights(layer: int | str | Sequence[float], count: int) -> NDArray[np.float32]:
    """A weight for each of `count` hidden states, summing to 1."""
    allowed = (
        f"layer must be a whole number from {-count} to {count - 1} (this model has {count - 1} layers), 'mean', or "
        f"{count} weights that are not negative and not all 0"
    )
    weights = np.zeros(count, np.float32)
    if isinstance(layer, int) and not isinstance(layer, bool) and -count <= layer < count:
        weights[layer] = 1.0
        return weights
    if layer == "mean":
        return np.full(count, 1.0 / count, np.float32)
    if isinstance(layer, list | tuple) and len(layer) == count:
        given = np.array([w if isinstance(w, int | float) else math.nan for w in layer], np.float64)
        if np.isfinite(given).all() and (given >= 0).all() and given.sum() > 0:
            return np.asarray(given / given.sum(), np.float32)
    raise ValueError(f"{allowed}, not {layer!r}")
