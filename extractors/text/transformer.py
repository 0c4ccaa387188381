"""`TransformerText`: hidden states of a pretrained text encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractors import pretrained
from extractors.base import TextExtractor, check_range, make_spec
from extractors.errors import ToolError
from extractors.sequence import FeatureSequence
from extractors.text.timed_text import TimedText
from extractors.text.words import word_spans
from extractors.transcript import Transcript

_UNITS = ("word", "subword")
_CHUNK = 1024


class TransformerText(TextExtractor):
    """One step per word (or word piece): a layer of any encoder that `transformers` knows, such as BERT or RoBERTa.

    Special tokens are dropped. With `unit="word"` a word's pieces are averaged; a word is what stands between spaces
    (in Chinese and Japanese every character). Text longer than the model takes is read in windows that overlap by
    half; each piece is taken from the window in which it stands furthest from an edge. Batching pads and masks, which
    changes no value beyond rounding.

    Weights are read from safetensors only: a pickle could run code.

    Args:
        model: a model id of the Hugging Face hub, or a local folder with `config.json`, `model.safetensors` and the
            tokenizer's files; `"package:NAME/FOLDER"` is such a folder inside the installed Python package `NAME`.
        revision: commit, tag or branch of the hub model; resolved to its commit in the spec.
        weights_sha256: what the hash of the local folder's weights, configuration and tokenizer must be; filled in when
            left out. The spec identifies a local model by it and not by its path.
        layer: index into the hidden states, 0 being the embeddings and -1 what the model gives, behind its last
            normalisation.
        unit: `"word"` or `"subword"`.
        batch_size: windows per forward pass; changes speed only.
        device: `"auto"` (CUDA where there is one), or a torch device; changes speed only.

    Raises:
        ValueError: a parameter is out of its range or does not fit the model.
        ToolError: transformers is missing; the model cannot be had; or the folder is not the one the hash names.
    """

    REGISTRY_NAME = "text.transformers"
    DEFINITION = 2
    uses_gpu = True

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        weights_sha256: str | None = None,
        layer: int = -1,
        unit: str = "word",
        batch_size: int = 32,
        device: str = "auto",
    ) -> None:
        check_range("batch_size", batch_size, 1, 4096)
        if unit not in _UNITS:
            raise ValueError(f"unit must be one of {_UNITS}, not {unit!r}")
        self._unit, self._batch_size, self._device = unit, int(batch_size), device
        found = pretrained.find(model, revision, weights_sha256)
        self._source, self._two_parts = found.source, bool(getattr(found.config, "is_encoder_decoder", False))
        self._layer = _checked_layer(layer, found.config)
        self._loaded: _Encoder | None = None
        self.names = tuple(f"hidden_{i}" for i in range(found.config.get_text_config().hidden_size))
        self.spec = make_spec(
            self.REGISTRY_NAME,
            "transformers",
            self.DEFINITION,
            {**found.identity, "layer": layer, "unit": unit},
            found.hints,
        )

    def extract_text(
        self, transcript: Transcript, start_seconds: float = 0.0, end_seconds: float | None = None
    ) -> FeatureSequence:
        """See `TextExtractor.extract_text`; how words get their times is told in `TimedText`."""
        return self._extract([TimedText(transcript, start_seconds, end_seconds)])[0]

    def extract_many(self, transcripts: Sequence[Transcript]) -> Iterator[FeatureSequence]:
        """See `TextExtractor.extract_many`; texts of like length share a batch."""
        for start in range(0, len(transcripts), _CHUNK):
            yield from self._extract([TimedText(t, 0.0, None) for t in transcripts[start : start + _CHUNK]])

    def _extract(self, texts: Sequence[TimedText]) -> list[FeatureSequence]:
        filled = [i for i, timed in enumerate(texts) if timed.text]
        result = [self.empty() for _ in texts]
        if not filled:
            return result
        if self._loaded is None:
            self._loaded = _Encoder(self._source, self._two_parts, self._layer, self._device)
        pieces = self._loaded.encode([texts[i].text for i in filled], self._batch_size)
        for i, (values, spans) in zip(filled, pieces, strict=True):
            if self._unit == "word":
                values, spans = _mean_per_word(values, spans, texts[i].text)
            if len(values):
                result[i] = texts[i].sequence(values, spans, self.names)
        return result


@dataclass(frozen=True)
class _Window:
    text: int
    first: int
    ids: list[int]
    special: NDArray[np.bool_]


class _Encoder:
    """Tokenizer and model, loaded."""

    def __init__(self, source: pretrained.Source, two_parts: bool, layer: int, device: str) -> None:
        import torch

        self._tokenizer = load_tokenizer(source)
        model = pretrained.load_weights(
            "AutoModel", source, unused=lambda key: "pooler" in key or (two_parts and key.startswith("decoder."))
        )
        if two_parts:
            model = model.get_encoder()
        self._chosen = pretrained.chosen_device(device)
        self._model = model.to(self._chosen)
        self._layer, self._torch = layer, torch
        self._length = window_length(self._tokenizer, model)

    def encode(self, texts: Sequence[str], batch_size: int) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Per text, `(N, D)` hidden states of its pieces and `(N, 2)` the characters each stands for."""
        windows, spans = self._split(texts)
        states: list[list[tuple[int, NDArray[np.float32]]]] = [[] for _ in texts]
        order = sorted(range(len(windows)), key=lambda i: len(windows[i].ids))
        for start in range(0, len(order), batch_size):
            batch = [windows[i] for i in order[start : start + batch_size]]
            for window, hidden in zip(batch, self._forward(batch), strict=True):
                states[window.text].append((window.first, hidden[~window.special]))
        joined = [_join(parts, len(own)) for parts, own in zip(states, spans, strict=True)]
        # Pieces that stand for no character (a lone word-start mark) have no time and no word.
        return [(v[s[:, 1] > s[:, 0]], s[s[:, 1] > s[:, 0]]) for v, s in zip(joined, spans, strict=True)]

    def _split(self, texts: Sequence[str]) -> tuple[list[_Window], list[NDArray[np.int64]]]:
        """Windows of every text, and the characters of every piece."""
        specials = self._tokenizer.num_special_tokens_to_add(pair=False)
        capacity = self._length - specials
        overlap = capacity // 2
        encoded = self._tokenizer(
            list(texts),
            truncation=True,
            max_length=self._length,
            stride=overlap,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        windows: list[_Window] = []
        spans: list[list[tuple[int, int]]] = [[] for _ in texts]
        count = [0] * len(texts)
        for i, text in enumerate(encoded["overflow_to_sample_mapping"]):
            special = np.array(encoded["special_tokens_mask"][i], bool)
            first = count[text] * (capacity - overlap)
            count[text] += 1
            windows.append(_Window(text, first, encoded["input_ids"][i], special))
            own = [s for s, skip in zip(encoded["offset_mapping"][i], special, strict=True) if not skip]
            spans[text].extend(own[len(spans[text]) - first :])
        return windows, [without_spaces(own, text) for own, text in zip(spans, texts, strict=True)]

    def _forward(self, windows: Sequence[_Window]) -> list[NDArray[np.float32]]:
        torch = self._torch
        longest = max(len(w.ids) for w in windows)
        padding = self._tokenizer.pad_token_id or 0
        ids = torch.full((len(windows), longest), padding, dtype=torch.long)
        mask = torch.zeros((len(windows), longest), dtype=torch.long)
        for i, window in enumerate(windows):
            ids[i, : len(window.ids)] = torch.tensor(window.ids)
            mask[i, : len(window.ids)] = 1
        with torch.inference_mode():
            output = self._model(
                input_ids=ids.to(self._chosen), attention_mask=mask.to(self._chosen), output_hidden_states=True
            )
        # Some models (CLIP's text half) list their last state as it is before the last normalisation.
        states = (*output.hidden_states[:-1], output.last_hidden_state)
        hidden = states[self._layer].float().cpu().numpy()  # (B, T, D)
        return [hidden[i, : len(window.ids)] for i, window in enumerate(windows)]


def without_spaces(spans: Sequence[tuple[int, int]], text: str) -> NDArray[np.int64]:
    """Spans moved off the space that byte-level tokenizers count to the piece after it."""
    moved = [(last - len(text[first:last].lstrip()), last) for first, last in spans]
    return np.array(moved, np.int64).reshape(-1, 2)


def _join(parts: list[tuple[int, NDArray[np.float32]]], count: int) -> NDArray[np.float32]:
    """One `(count, D)` from overlapping windows: each piece from where it stands furthest from an inner edge."""
    parts = sorted(parts, key=lambda part: part[0])
    joined = np.zeros((count, parts[0][1].shape[1]), np.float32)
    best = np.full(count, -1.0)
    for number, (first, hidden) in enumerate(parts):
        at = np.arange(len(hidden), dtype=np.float64)
        left = at if number else np.full(len(hidden), np.inf)
        right = at[::-1] if number < len(parts) - 1 else np.full(len(hidden), np.inf)
        inner = np.minimum(left, right)
        own = slice(first, first + len(hidden))
        better = inner > best[own]
        joined[own][better] = hidden[better]
        best[own] = np.maximum(best[own], inner)
    return joined


def _mean_per_word(
    values: NDArray[np.float32], spans: NDArray[np.int64], text: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Average the pieces of each word: `(W, D)`, and the words' characters `(W, 2)`; words without pieces go."""
    words = np.array(word_spans(text), np.int64).reshape(-1, 2)
    word = np.searchsorted(words[:, 0], spans[:, 1] - 1, side="right") - 1
    counts = np.bincount(word, minlength=len(words))
    sums = np.zeros((len(words), values.shape[1]), np.float64)
    np.add.at(sums, word, values)
    kept = counts > 0
    return (sums[kept] / counts[kept, None]).astype(np.float32), words[kept]


def load_tokenizer(source: pretrained.Source) -> Any:
    """The tokenizer of a model.

    Raises:
        ToolError: it cannot be had, knows no words, or cannot tell which characters a piece stands for.
    """
    tokenizer = pretrained.load("tokenizer", "AutoTokenizer", source)
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers makes of a folder without its files
        raise ToolError(
            f"{source.name}: its tokenizer knows no words: put its files (tokenizer.json, tokenizer_config.json) "
            "beside config.json"
        )
    if not getattr(tokenizer, "is_fast", False):
        raise ToolError(
            f"{source.name}: its tokenizer cannot tell which characters a piece stands for; give a model with a "
            "tokenizer.json"
        )
    return tokenizer


def window_length(tokenizer: Any, model: Any) -> int:
    """How many tokens, special ones included, the model takes."""
    limits = [512]
    if 0 < tokenizer.model_max_length < 10**6:
        limits = [tokenizer.model_max_length]
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions and positions > 0:
        table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
        # RoBERTa's position table starts behind its padding index.
        reserved = getattr(table, "padding_idx", None)
        limits.append(positions - (0 if reserved is None else reserved + 1))
    return int(min(limits))


def _checked_layer(layer: int, config: Any) -> int:
    count = config.get_text_config().num_hidden_layers
    if isinstance(layer, bool) or not isinstance(layer, int) or not -count - 1 <= layer <= count:
        raise ValueError(
            f"layer must be a whole number from {-count - 1} to {count} (this model has {count} layers), not {layer!r}"
        )
    return layer
