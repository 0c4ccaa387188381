"""Settings of all tests."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

# Test runners already use every core; threads inside each of them would fight over the same ones.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tables are as wide as the terminal; what a test reads in them must not depend on where it runs.
os.environ["COLUMNS"] = "200"
# Shells have what they run in the background ignore Ctrl-C, and processes started by tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Compile librosa's functions before test workers start: two of them at once would break numba's cache."""
    if not hasattr(config, "workerinput"):
        from extractors.speech.compiled import load_librosa

        load_librosa()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that no worker sits idle while another is on the last long one."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["what", "a", "wonderful", "awful", "day", "it", "was", "!", ".", ","]


@pytest.fixture(scope="session")
def save_classifier() -> Callable[..., Path]:
    """`save_classifier(kind, folder, labels, logits=None)`: a tiny classifier of text, audio or images.

    With `logits` its head ignores what it is shown and gives these; without, its weights are random. `several=True`
    makes the labels independent of each other; `tokens` is how many tokens a classifier of text takes.
    """
    return _save_classifier


def _save_classifier(
    kind: str,
    folder: Path,
    labels: Sequence[str],
    logits: Sequence[float] | None = None,
    *,
    several: bool = False,
    tokens: int = 16,
) -> Path:
    import torch
    import transformers as t

    small: dict[str, float] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    small["initializer_range"] = 0.5  # as far apart as trained ones, so that what they are shown matters
    named = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    if several:
        named["problem_type"] = "multi_label_classification"
    folder.mkdir(parents=True)
    torch.manual_seed(7)
    if kind == "text":
        _save_tokenizer(folder, tokens)
        sizes = {"vocab_size": len(SPECIAL + WORDS), "max_position_embeddings": tokens}
        model = t.BertForSequenceClassification(t.BertConfig(**small, **sizes, **named))
    elif kind == "audio":
        convolutions = {"conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (5, 4), "num_feat_extract_layers": 2}
        sizes = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8}
        config = t.Wav2Vec2Config(**small, **convolutions, **sizes, **named)
        model = t.Wav2Vec2ForSequenceClassification(config)
        t.Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=16000, do_normalize=True).save_pretrained(folder)
    else:
        model = t.ViTForImageClassification(t.ViTConfig(**small, image_size=32, patch_size=8, **named))
        preprocessor = {
            "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 32, "width": 32},
            "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        }  # fmt: skip
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor), encoding="utf-8")
    with torch.no_grad():
        if logits is not None:
            model.classifier.weight.zero_()
            model.classifier.bias.copy_(torch.tensor(logits))
        else:
            model.classifier.weight.normal_(0.0, 1.0)
    model.save_pretrained(folder)
    return folder


def _save_tokenizer(folder: Path, tokens: int) -> None:
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(SPECIAL + WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=tokens, **names).save_pretrained(
        folder
    )
