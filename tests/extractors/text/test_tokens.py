from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

import extractors
from extractors.errors import ToolError
from extractors.text.tokens import TextTokens
from extractors.transcript import Segment, Transcript

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "un", "##watch", "##able", "movie", "!"]


def save(folder: Path, extra: int = 0) -> Path:
    """A WordPiece tokenizer that truncates and pads by itself, as some published ones do, beside a configuration."""
    names = [*PIECES, *(f"w{i}" for i in range(extra))]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=6, pad_id=0, pad_token="[PAD]")
    whole = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=4, unk_token="[UNK]", pad_token="[PAD]"
    )
    whole.save_pretrained(folder)
    transformers.BertConfig(vocab_size=len(names)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("tokenizer"))


def ids(values: np.ndarray) -> list[int]:
    return (values[:, 0] * 2048 + values[:, 1]).astype(int).tolist()


def test_pieces_and_words_by_hand(folder: Path) -> None:
    """No special tokens, nothing cut off or filled up; a sign at the end of a word is a part of it."""
    found = TextTokens(model=str(folder)).extract_text(Transcript.of("good unwatchable movie!"), 2.0, 4.3)
    assert ids(found.values) == [4, 5, 6, 7, 8, 9]
    assert found.values[:, 2].tolist() == [1, 1, 0, 0, 1, 0]
    # 23 characters over 2.3 s: a tenth each.
    np.testing.assert_allclose(found.times[:, 0], [2.0, 2.5, 2.7, 3.2, 3.7, 4.2], atol=1e-9)
    assert found.times[-1, 1] == pytest.approx(4.3)


def test_many_are_each_as_if_alone(folder: Path) -> None:
    reader = TextTokens(model=str(folder))
    texts = ["good", "", "movie movie!", None, "unwatchable"]
    for text, found in zip(texts, extractors.extract_texts(reader, texts), strict=True):
        alone = reader.extract_text(Transcript.of(text))
        np.testing.assert_array_equal(found.values, alone.values)
        np.testing.assert_array_equal(found.times, alone.times)
    assert not len(reader.extract_text(Transcript.of("  ")))


def test_ids_survive_half_precision(tmp_path: Path) -> None:
    reader = TextTokens(model=str(save(tmp_path, extra=5000)))
    (found,) = extractors.extract_texts(reader, ["w4000 w2 w2039"])
    halved = found.values.astype(np.float16).astype(np.float32)
    assert ids(halved) == [len(PIECES) + 4000, len(PIECES) + 2, len(PIECES) + 2039]


def test_segments_outside_the_clip_are_left_out(folder: Path) -> None:
    transcript = Transcript((Segment("good", 0.0, 1.0), Segment("movie", 1.0, 2.0), Segment("good!", 2.0, 3.0)))
    assert ids(TextTokens(model=str(folder)).extract_text(transcript, 1.0, 2.0).values) == [8]


def test_the_spec_names_the_tokenizer_and_not_the_weights(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    spec = TextTokens(model=str(folder)).spec
    (copy / "model.safetensors").write_bytes(b"weights of another model with the same tokenizer")
    other = TextTokens(model=str(copy)).spec
    assert other == spec
    assert other.hints == {"model": str(copy)}
    assert extractors.rebuild(spec, model=str(copy)).spec == spec
    text = (copy / "tokenizer.json").read_text(encoding="utf-8")
    (copy / "tokenizer.json").write_text(text.replace('"movie"', '"movies"'), encoding="utf-8")
    assert TextTokens(model=str(copy)).spec != spec
    with pytest.raises(ToolError, match=r"configuration and tokenizer or preprocessor have the SHA-256 .* is required"):
        extractors.rebuild(spec, model=str(copy))


def test_it_is_raw(folder: Path) -> None:
    assert TextTokens.raw
    assert not extractors.build("text.lexical").raw


def test_no_such_folder() -> None:
    with pytest.raises(ToolError, match=r"model='\./gone': no such folder"):
        TextTokens(model="./gone")
