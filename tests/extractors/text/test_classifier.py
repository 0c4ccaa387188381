"""`TextClassifier` on tiny classifiers that are built and saved here, against plain forward passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import extractors
from extractors import Segment, Transcript
from extractors.text.classifier import TextClassifier

LABELS = ("bad", "fine", "good")
TEXT = "What a wonderful day, it was awful!"


@pytest.fixture(scope="module")
def folder(save_classifier: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier("text", tmp_path_factory.mktemp("text") / "m", LABELS)


def naive(folder: Path, text: str) -> np.ndarray:
    """Probabilities of one text that fits."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1).numpy()[0]


def test_equals_a_plain_forward_pass(folder: Path) -> None:
    extractor = extractors.build("text.classifier", model=str(folder))
    assert extractor.names == LABELS
    found = extractor.extract_text(Transcript.of(TEXT), 0.0, 4.0)  # type: ignore[attr-defined]
    assert np.allclose(found.values, naive(folder, TEXT)[None], atol=1e-6)
    assert found.times.tolist() == [[0.0, 4.0]]
    assert np.abs(naive(folder, TEXT) - naive(folder, "What")).max() > 0.01


def test_only_the_words_in_the_clip_count(folder: Path) -> None:
    """Of a sentence from 0 to 4 s those whose middle lies in the clip; the step lasts as long as they do."""
    extractor = TextClassifier(model=str(folder))
    said = Transcript((Segment("what a day it", 0.0, 13.0), Segment("was awful", 20.0, 29.0)))
    # Characters take a second each: what 0-4, a 5-6, day 7-10, it 11-13; was 20-23, awful 24-29.
    found = extractor.extract_text(said, 5.2, 22.0)
    assert found.times.tolist() == [[5.0, 23.0]]
    assert np.allclose(found.values[0], naive(folder, "a day it was"), atol=1e-6)
    gone = extractor.extract_text(said, 14.0, 19.0)
    assert len(gone) == 0
    assert len(extractor.extract_text(Transcript(), 0.0, 1.0)) == 0


def test_a_long_text_is_cut_and_weighed_by_tokens(folder: Path) -> None:
    """16 tokens with the two special ones: 14 words, then 3."""
    text = " ".join(["awful"] * 14 + ["wonderful"] * 3)
    expected = (14 * naive(folder, " ".join(["awful"] * 14)) + 3 * naive(folder, "wonderful wonderful wonderful")) / 17
    for batch_size in (1, 8):
        found = TextClassifier(model=str(folder), batch_size=batch_size).extract_text(Transcript.of(text))
        assert np.allclose(found.values[0], expected, atol=1e-6)


def test_the_spec_knows_the_model_by_its_weights(folder: Path) -> None:
    extractor = TextClassifier(model=str(folder))
    again = extractors.rebuild(extractors.ExtractorSpec.from_json(extractor.spec.to_json()))
    assert again.spec == extractor.spec
    assert set(extractor.spec.parameters) == {"weights_sha256"}


def test_a_folder_without_the_tokenizers_files(save_classifier: Callable[..., Path], tmp_path: Path) -> None:
    folder = save_classifier("text", tmp_path / "m", LABELS)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    extractor = TextClassifier(model=str(folder))
    with pytest.raises(extractors.ToolError, match=r"its tokenizer knows no words: put its files \(tokenizer\.json"):
        extractor.load()
