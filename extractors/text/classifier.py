"""`TextClassifier`: what a pretrained text classifier says of all that is said in a clip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from extractors import pretrained
from extractors.base import TextExtractor, check_range, make_spec
from extractors.classification import Classifier, labels_of
from extractors.sequence import FeatureSequence
from extractors.text.timed_text import TimedText
from extractors.text.transformer import load_tokenizer, window_length
from extractors.text.words import word_spans
from extractors.transcript import Transcript


class TextClassifier(TextExtractor):
    """One step for the whole text of a clip: the probability of each label of a classifier of `transformers`.

    The text is what lies in the clip: of a sentence that runs over its edge, the words whose middle is inside. Text
    longer than the model takes is cut into pieces that it does; the probabilities are their mean, each weighed by its
    tokens.

    Args:
        model: a model id of the Hugging Face hub, or a local folder with `config.json`, `model.safetensors` and the
            tokenizer's files; `"package:NAME/FOLDER"` is such a folder inside the installed package `NAME`.
        revision: commit, tag or branch of the hub model; resolved to its commit in the spec.
        weights_sha256: what the hash of the local folder must be; filled in when left out.
        batch_size: pieces per forward pass; changes speed only.
        device: `"auto"` (CUDA where there is one), or a torch device; changes speed only.

    Raises:
        ValueError: a parameter is out of its range.
        ToolError: the model cannot be had or names no labels, or the folder is not the one the hash names.
    """

    REGISTRY_NAME = "text.classifier"
    DEFINITION = 1
    uses_gpu = True

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        weights_sha256: str | None = None,
        batch_size: int = 16,
        device: str = "auto",
    ) -> None:
        check_range("batch_size", batch_size, 1, 4096)
        self._batch_size, self._device = int(batch_size), device
        found = pretrained.find(model, revision, weights_sha256)
        self._source = found.source
        self.names = labels_of(found.config, model)
        self.spec = make_spec(self.REGISTRY_NAME, "transformers", self.DEFINITION, found.identity, found.hints)
        self._loaded: _Reader | None = None

    def load(self) -> None:
        """See `Extractor.load`."""
        if self._loaded is None:
            self._loaded = _Reader(self._source, self.names, self._device)

    def extract_text(
        self, transcript: Transcript, start_seconds: float = 0.0, end_seconds: float | None = None
    ) -> FeatureSequence:
        """See `TextExtractor.extract_text`; the step lasts from the first word to the last."""
        timed = TimedText(transcript, start_seconds, end_seconds)
        words = np.array(word_spans(timed.text), np.int64).reshape(-1, 2)
        if not len(words):
            return self.empty()
        numbers = np.arange(len(words), dtype=np.float32)[:, None]
        inside = timed.sequence(numbers, words, ("word",))  # which words lie in the clip, by their number
        if not len(inside):
            return self.empty()
        text = _joined(timed.text, words, np.sort(inside.values[:, 0].astype(np.int64)))
        self.load()
        assert self._loaded is not None
        times = np.array([[inside.times[:, 0].min(), inside.times[:, 1].max()]], np.float64)
        return FeatureSequence(self._loaded.read(text, self._batch_size)[None], times, self.names)


class _Reader:
    """Tokenizer and model, loaded."""

    def __init__(self, source: pretrained.Source, labels: tuple[str, ...], device: str) -> None:
        self._tokenizer = load_tokenizer(source)
        self._classifier = Classifier(source, "AutoModelForSequenceClassification", labels, device)
        self._length = window_length(self._tokenizer, self._classifier.model.base_model)

    def read(self, text: str, batch_size: int) -> NDArray[np.float32]:
        """Probabilities of the labels: `(L,)`."""
        pieces = self._tokenizer(
            text,
            truncation=True,
            max_length=self._length,
            return_overflowing_tokens=True,
            return_special_tokens_mask=True,
            padding=True,
            return_tensors="pt",
        )
        kept = {key: pieces[key] for key in self._tokenizer.model_input_names if key in pieces}
        rows = [
            self._classifier.probabilities({key: value[start : start + batch_size] for key, value in kept.items()})
            for start in range(0, len(kept["input_ids"]), batch_size)
        ]
        tokens = (pieces["special_tokens_mask"] == 0).sum(dim=1).numpy().astype(np.float64)
        weights = tokens / tokens.sum() if tokens.sum() else np.full(len(tokens), 1 / len(tokens))
        return np.asarray(weights @ np.concatenate(rows).astype(np.float64), np.float32)


def _joined(text: str, words: NDArray[np.int64], kept: NDArray[np.int64]) -> str:
    """The kept words as one text; neighbours keep what stands between them."""
    runs = np.split(kept, np.flatnonzero(np.diff(kept) > 1) + 1)
    return " ".join(text[words[run[0], 0] : words[run[-1], 1]] for run in runs)
