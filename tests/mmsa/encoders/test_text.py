from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import extractors
from extractors.text.tokens import TextTokens
from extractors.text.transformer import TransformerText
from fusion import ModalitySequence
from mmsa.encoders import build_encoder
from mmsa.encoders.config import EncoderConfig
from mmsa.encoders.encoder import Encoder
from mmsa.encoders.spec import encoder_spec

TEXTS = ["the movie was good!", "bad", "the movie was not very unwatchable. very bad."]
LONG = "the movie was good! very unwatchable. a bad bad movie was the very good movies. not not a movie!"


def encoder(folder: Path, **options: object) -> Encoder:
    return build_encoder(encoder_spec("text", EncoderConfig(model=str(folder), tune="frozen", **options)))  # type: ignore[arg-type]


def tokens(folder: Path, texts: list[str]) -> ModalitySequence:
    reader = TextTokens(model=str(folder))
    return ModalitySequence.pad([torch.from_numpy(f.values) for f in extractors.extract_texts(reader, texts)])


@pytest.mark.parametrize("unit", ["word", "subword"])
@pytest.mark.parametrize("layer", [-1, 0, 1])
def test_frozen_is_what_the_extractor_makes(bert: Path, unit: str, layer: int) -> None:
    """Two ways to the same numbers: the text extractor's, one clip at a time, and this one's, batched."""
    texts = [*TEXTS, LONG, "good"]
    assert len(tokens(bert, [LONG]).mask[0]) > 16  # what the network takes
    expected = extractors.extract_texts(TransformerText(model=str(bert), unit=unit, layer=layer), texts)
    with torch.no_grad():
        found = encoder(bert, unit=unit, layer=layer)(tokens(bert, texts))
    for row, own in enumerate(expected):
        torch.testing.assert_close(found.values[row][found.mask[row]], torch.from_numpy(own.values), atol=1e-5, rtol=0)
        assert found.mask[row].sum() == len(own)


def test_special_tokens_are_read(bert: Path) -> None:
    """Against the network itself, with the tokenizer's own special tokens."""
    import transformers

    encoded = transformers.AutoTokenizer.from_pretrained(bert)(TEXTS[2], return_tensors="pt")
    with torch.no_grad():
        expected = transformers.AutoModel.from_pretrained(bert).eval()(**encoded).last_hidden_state[0, 1:-1]
        found = encoder(bert, unit="subword")(tokens(bert, [TEXTS[2]]))
    torch.testing.assert_close(found.values[0], expected, atol=1e-5, rtol=0)


def test_pieces_without_a_character_are_read_and_dropped(bert: Path) -> None:
    raw = tokens(bert, [TEXTS[0]])
    marked = ModalitySequence(raw.values.clone(), raw.mask)
    marked.values[0, 2, 2] = -1.0
    with torch.no_grad():
        every = encoder(bert, unit="subword")(raw)
        found = encoder(bert, unit="subword")(marked)
    assert found.mask.sum() == every.mask.sum() - 1
    kept = torch.cat([every.values[0, :2], every.values[0, 3:]])
    torch.testing.assert_close(found.values[0][found.mask[0]], kept)


def test_a_clip_that_begins_within_a_word(bert: Path) -> None:
    """A window of a long talk may: the rest of the word is a word then."""
    raw = tokens(bert, ["unwatchable movie"])  # un ##watch ##able movie
    cut = ModalitySequence(raw.values[:, 1:], raw.mask[:, 1:])
    with torch.no_grad():
        pieces = encoder(bert, unit="subword")(cut).values[0]
        found = encoder(bert)(cut)
    assert found.mask.tolist() == [[True, True]]
    torch.testing.assert_close(found.values[0], torch.stack([pieces[:2].mean(dim=0), pieces[2]]))


def test_an_id_of_two_digits(make_bert: Callable[..., Path], tmp_path: Path) -> None:
    """The embedding of piece 5000 is found under `(2, 904)`."""
    own = encoder(make_bert(tmp_path, vocab_size=6000), unit="subword", layer=0)
    raw = ModalitySequence.pad([torch.tensor([[2.0, 904.0, 1.0]])])
    with torch.no_grad():
        network = own.network
        expected = network.embeddings(input_ids=torch.tensor([[2, 5000, 3]]))[0, 1]
        torch.testing.assert_close(own(raw).values[0, 0], expected)
