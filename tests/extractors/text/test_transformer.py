"""`TransformerText` on tiny models that are built and saved here, against plain forward passes."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import extractors
from extractors import pretrained
from extractors.pretrained import folder_sha256
from extractors.text.transformer import TransformerText
from extractors.transcript import Segment, Transcript

PIECES = ["good", "bad", "movie", "the", "was", "very", "un", "##watch", "##able", "!", ".", "a", "##s"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = ["the movie was good!", "bad", "the movie was very unwatchable. very bad.", "a good movies !"]
LENGTH = 16


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers that takes 16 tokens, with a WordPiece tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    vocabulary = {piece: i for i, piece in enumerate(SPECIAL + PIECES)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=LENGTH, **names).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=LENGTH,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    assert (folder / "model.safetensors").is_file()
    return folder


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa with a byte-level tokenizer, whose position table starts behind the padding index."""
    folder = tmp_path_factory.mktemp("roberta")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.RobertaConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=LENGTH + 2, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    transformers.RobertaModel(config).save_pretrained(folder)
    return folder


def naive(folder: Path, text: str, layer: int = -1) -> tuple[np.ndarray, list[str]]:
    """Hidden states of one text that fits, special tokens dropped, and its pieces."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    encoded = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        states = model(**encoded, output_hidden_states=True).hidden_states[layer][0]
    return states[1:-1].numpy(), tokenizer.convert_ids_to_tokens(encoded["input_ids"][0])[1:-1]


@pytest.mark.parametrize("layer", [-1, 0, 1])
def test_subwords_equal_a_plain_forward_pass(bert: Path, layer: int) -> None:
    extractor = TransformerText(model=str(bert), unit="subword", layer=layer)
    for text in TEXTS:
        found = extractor.extract_text(Transcript.of(text), 0.0, float(len(text)))
        expected, _ = naive(bert, text, layer)
        assert np.allclose(found.values, expected, atol=1e-5)
    spans = extractor.extract_text(Transcript.of(TEXTS[0]), 0.0, float(len(TEXTS[0]))).times
    assert np.allclose(spans, [[0, 3], [4, 9], [10, 13], [14, 18], [18, 19]])


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
MARKS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
FAMILIES: dict[str, dict] = {
    "Bert": SMALL,
    "Roberta": {**SMALL, **MARKS},
    "XLMRoberta": {**SMALL, **MARKS},
    "DebertaV2": {**SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "MPNet": {**SMALL, **MARKS},
    "ModernBert": {**SMALL, **MARKS, "cls_token_id": 2, "sep_token_id": 3},
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 2, "eos_token_id": 3},
    "OPT": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 24,
            "word_embed_proj_dim": 16, **MARKS},
    "Phi": {**SMALL, **MARKS},
    "Mistral": {**SMALL, **MARKS, "num_key_value_heads": 2},
    "T5": {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8, "d_ff": 24, "decoder_start_token_id": 0},
    "CLIPText": {**SMALL, **MARKS},
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_layer_is_what_the_model_gives(bert: Path, tmp_path: Path, family: str) -> None:
    """Behind the last normalisation, whose weights are far from 1 here; the layer before is the listed one."""
    for file in bert.glob("tokenizer*.json"):
        shutil.copy(file, tmp_path)
    config = getattr(transformers, f"{family}Config")(vocab_size=len(SPECIAL + PIECES), **FAMILIES[family])
    torch.manual_seed(3)
    model = getattr(transformers, f"{family}Model")(config).eval()
    for weights in model.parameters():
        if weights.ndim == 1:
            torch.nn.init.normal_(weights, 2.0, 0.5)
    model.save_pretrained(tmp_path)
    part = model.get_encoder() if family == "T5" else model
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    read = tokenizer(TEXTS[0], return_tensors="pt", return_special_tokens_mask=True)
    own = read["special_tokens_mask"][0] == 0
    with torch.no_grad():
        output = part(input_ids=read["input_ids"], output_hidden_states=True)
    for layer, expected in (
        (-1, output.last_hidden_state),
        (2, output.last_hidden_state),
        (1, output.hidden_states[1]),
    ):
        found = TransformerText(model=str(tmp_path), unit="subword", layer=layer).extract_text(Transcript.of(TEXTS[0]))
        assert np.allclose(found.values, expected[0, own].numpy(), atol=1e-4)
    apart = (output.hidden_states[-1] - output.last_hidden_state).abs().max()
    assert (apart > 0.1) == (family == "CLIPText")


def test_weights_that_the_checkpoint_lacks(bert: Path, tmp_path: Path) -> None:
    """They would be random; only of a pooler, and of a decoder beside the encoder, nothing is used."""
    shutil.copytree(bert, tmp_path / "bert")
    model = transformers.BertModel.from_pretrained(bert)
    kept = {key: value for key, value in model.state_dict().items() if "pooler" not in key}
    model.save_pretrained(tmp_path / "bert", state_dict=kept)
    without = TransformerText(model=str(tmp_path / "bert")).extract_text(Transcript.of(TEXTS[0]))
    assert np.array_equal(without.values, TransformerText(model=str(bert)).extract_text(Transcript.of(TEXTS[0])).values)
    del kept["encoder.layer.1.output.dense.weight"]
    model.save_pretrained(tmp_path / "bert", state_dict=kept)
    with pytest.raises(
        extractors.ToolError, match=r"weights lack encoder\.layer\.1\.output\.dense\.weight, which would"
    ):
        TransformerText(model=str(tmp_path / "bert")).extract_text(Transcript.of(TEXTS[0]))


def test_words_are_the_mean_of_their_pieces(bert: Path) -> None:
    text = "the unwatchable movie!"
    states, pieces = naive(bert, text)
    assert pieces == ["the", "un", "##watch", "##able", "movie", "!"]
    found = TransformerText(model=str(bert)).extract_text(Transcript.of(text), 0.0, 22.0)
    expected = np.stack([states[0], states[1:4].mean(axis=0), states[4:6].mean(axis=0)])
    assert np.allclose(found.values, expected, atol=1e-5)
    assert np.allclose(found.times, [[0, 3], [4, 15], [16, 22]])


def test_byte_level_pieces_belong_to_the_word_after_the_space(roberta: Path) -> None:
    text = "ab é c"
    states, pieces = naive(roberta, text)
    assert len(pieces) == 7  # a, b, space, two bytes of é, space, c
    found = TransformerText(model=str(roberta)).extract_text(Transcript.of(text), 0.0, 6.0)
    assert np.allclose(found.times, [[0, 2], [3, 4], [5, 6]])
    expected = np.stack([states[:2].mean(axis=0), states[3:5].mean(axis=0), states[6]])
    assert np.allclose(found.values, expected, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_batches_change_nothing(bert: Path, batch_size: int) -> None:
    texts = [*TEXTS, None, "", *reversed(TEXTS), " ".join(TEXTS * 3)]
    extractor = TransformerText(model=str(bert), batch_size=batch_size)
    found = list(extractors.extract_texts(extractor, texts))
    assert len(found) == len(texts)
    for text, sequence in zip(texts, found, strict=True):
        alone = TransformerText(model=str(bert), batch_size=1).extract_text(Transcript.of(text))
        assert np.allclose(sequence.values, alone.values, atol=1e-5)
        assert np.array_equal(sequence.times, alone.times)
    assert [len(s) for s in found[:6]] == [4, 1, 7, 4, 0, 0]


def test_long_text_is_read_in_windows(bert: Path) -> None:
    """Each piece comes from the window, of 14 pieces every 7, in which it stands furthest from an inner edge."""
    words = (["good", "bad", "movie", "the", "was", "very", "a"] * 6)[:38]
    found = TransformerText(model=str(bert), unit="subword").extract_text(Transcript.of(" ".join(words)))
    starts = [0, 7, 14, 21, 28]
    windows = {s: naive(bert, " ".join(words[s : s + 14]))[0] for s in starts}
    assert len(found) == 38

    def inner(start: int, at: int) -> float:
        left = at - start if start else np.inf
        right = min(start + 14, 38) - 1 - at if start != starts[-1] else np.inf
        return min(left, right)

    for at in range(38):
        holding = [s for s in starts if s <= at < s + 14]
        best = max(inner(s, at) for s in holding)
        options = [windows[s][at - s] for s in holding if inner(s, at) == best]
        assert any(np.allclose(found.values[at], option, atol=1e-5) for option in options)


def test_the_position_table_behind_the_padding_is_not_overrun(roberta: Path) -> None:
    found = TransformerText(model=str(roberta), unit="subword").extract_text(Transcript.of("abcdefgh" * 8))
    assert len(found) == 64
    assert np.allclose(found.values[:7], naive(roberta, ("abcdefgh" * 2)[:14])[0][:7], atol=1e-5)


def test_times_from_segments(bert: Path) -> None:
    transcript = Transcript((Segment("good movie", 0.0, 1.0), Segment("bad", 3.0, 4.0)))
    found = TransformerText(model=str(bert)).extract_text(transcript, 0.0, 10.0)
    assert np.allclose(found.times, [[0, 0.4], [0.5, 1.0], [3, 4]])
    assert np.allclose(found.values, naive(bert, "good movie bad")[0], atol=1e-5)


def test_the_spec_knows_the_weights_and_not_the_path(bert: Path, tmp_path: Path) -> None:
    extractor = extractors.build("text.transformers", model=str(bert))
    assert extractor.spec.parameters["weights_sha256"] == folder_sha256(bert)
    assert "model" not in extractor.spec.parameters
    copy = tmp_path / "moved"
    shutil.copytree(bert, copy)
    spec = extractors.ExtractorSpec.from_json(extractor.spec.to_json())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved = extractors.rebuild(spec, model=str(copy))
    assert moved.spec.fingerprint == extractor.spec.fingerprint
    text = Transcript.of(TEXTS[2])
    assert np.array_equal(moved.extract_text(text).values, extractor.extract_text(text).values)  # type: ignore[attr-defined]
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(
        extractors.ToolError, match=r"have the SHA-256 [0-9a-f]{64}, but [0-9a-f]{64} is required: give"
    ):
        extractors.rebuild(spec, model=str(copy))
    with pytest.raises(extractors.ToolError, match=r"gone': no such folder; give .*rebuild\(spec, model=FOLDER\)"):
        extractors.rebuild(spec, model=str(tmp_path / "gone"))


def test_a_folder_inside_an_installed_package(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is not imported, the spec names no path of this machine, and a rebuilt one computes the same."""
    package = tmp_path / "bringsbert"
    shutil.copytree(bert, package / "inner" / "model")
    (package / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    extractor = TransformerText(model="package:bringsbert/inner/model")
    plain = TransformerText(model=str(bert))
    assert extractor.spec == plain.spec
    assert extractor.spec.hints == {"model": "package:bringsbert/inner/model"}
    assert str(tmp_path) not in extractor.spec.to_json()
    again = extractors.rebuild(extractor.spec)
    transcript = Transcript.of(TEXTS[0])
    assert np.array_equal(again.extract_text(transcript).values, plain.extract_text(transcript).values)
    with pytest.raises(extractors.ToolError, match="the package bringsbert has no folder inner/other in "):
        TransformerText(model="package:bringsbert/inner/other")


@pytest.mark.parametrize("model", ["package:", "package:/model", "package:a.b/model", "package:name/../other"])
def test_a_package_is_named_in_one_form(model: str) -> None:
    with pytest.raises(ValueError, match=r"must be package:NAME/FOLDER"):
        TransformerText(model=model)


@pytest.mark.parametrize("name", ["nonesuch_package", "json.decoder", "textwrap"])
def test_a_package_that_is_not_there(name: str) -> None:
    """Not installed, or a module without a folder."""
    kind = ValueError if "." in name else extractors.ToolError
    with pytest.raises(kind, match=r"mmsa-framework\[bench\]|must be package:NAME"):
        TransformerText(model=f"package:{name}/model")


def test_pickled_weights_are_refused(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(bert, folder)
    model = transformers.AutoModel.from_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    extractor = TransformerText(model=str(folder))
    with pytest.raises(
        extractors.ToolError, match=r"the weights cannot be loaded from the folder .*pickle files are never"
    ):
        extractor.extract_text(Transcript.of("good"))


def test_what_the_hub_cannot_give(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("We couldn't connect to the hub\nand more")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(
        extractors.ToolError,
        match=r"some/model: the configuration cannot be loaded from the Hugging Face hub or its local cache "
        r"\(We couldn't connect to the hub\)\. Needed are config.json, model.safetensors .*: put them in one folder",
    ):
        TransformerText(model="some/model")


def test_a_hub_model_is_known_by_its_commit(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is stood in for by the local folder; the configuration brings the commit with it."""
    asked: list[tuple[str, str, str]] = []
    real = pretrained.load

    def load(what: str, kind: str, source: pretrained.Source, **options: object) -> object:
        asked.append((what, source.name, source.revision))
        made = real(what, kind, pretrained.Source(str(bert), None, True), **options)
        if what == "configuration":
            made._commit_hash = "0123abc"
        return made

    monkeypatch.setattr(pretrained, "load", load)
    extractor = extractors.build("text.transformers", model="some/model")
    assert extractor.spec.parameters["model"] == "some/model"
    assert extractor.spec.parameters["revision"] == "0123abc"
    again = extractors.rebuild(extractor.spec)
    again.extract_text(Transcript.of("good"))  # type: ignore[attr-defined]
    assert asked[-2:] == [("tokenizer", "some/model", "0123abc"), ("weights", "some/model", "0123abc")]
    assert again.spec == extractor.spec


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"unit": "letter"}, r"unit must be one of \('word', 'subword'\), not 'letter'"),
        ({"layer": 3}, r"layer must be a whole number from -3 to 2 \(this model has 2 layers\), not 3"),
        ({"batch_size": 0}, "batch_size must be a number from 1 to 4096, not 0"),
        ({"revision": "main"}, "is for hub models, but .* is a local folder: leave it out"),
    ],
)
def test_parameters_are_checked(bert: Path, parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerText(model=str(bert), **parameters)


def test_empty_keeps_the_dimension(bert: Path) -> None:
    extractor = TransformerText(model=str(bert))
    assert len(extractor.names) == 24
    assert extractor.extract_text(Transcript()).values.shape == (0, 24)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
