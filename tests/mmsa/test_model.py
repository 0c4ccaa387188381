from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fusion import ModalitySequence, common_grid
from mmsa.corpora.clip import Corpus
from mmsa.data import SplitData
from mmsa.errors import UsageError
from mmsa.features import FeatureTable
from mmsa.model import CLAMP, ModelConfig, MultimodalModel, Normaliser, readable, split_outputs
from mmsa.tasks import Classification, MultiLabel, Regression

SENTIMENT = Regression("sentiment", -3, 3)
EMOTION = Classification("emotion", ("calm", "glad", "cross"))
MOODS = MultiLabel("moods", ("happy", "sad"))
CONFIG = ModelConfig("late", {"text": 3, "audio": 2}, 4, {"hidden_dim": 8})


@pytest.fixture
def fitted(make_corpus: Callable[..., Corpus], make_table: Callable[..., FeatureTable]) -> Callable[..., Normaliser]:
    """`(sequences, splits)` → a normaliser fitted on the training split."""

    def fit(sequences: Sequence[NDArray[np.float64]], splits: Sequence[str]) -> Normaliser:
        corpus = make_corpus((SENTIMENT,), splits, [{}] * len(splits))
        data = SplitData(corpus, {"text": make_table("text", sequences)}, "train", (SENTIMENT,))
        normaliser = Normaliser(sequences[0].shape[1])
        normaliser.fit(data, "text")
        return normaliser

    return fit


def test_the_normaliser_sees_real_training_steps_alone(fitted: Callable[..., Normaliser]) -> None:
    """Ragged clips, an empty one, more clips than a batch, and other splits with quite different numbers."""
    random = np.random.default_rng(0)
    lengths = [int(n) for n in random.integers(0, 9, 90)]
    lengths[0], lengths[1] = 40, 0  # long enough that padding outnumbers the real steps
    splits = ["train" if i % 5 else "test" for i in range(90)]
    splits[0] = "train"
    sequences = [
        random.normal(5, [1.0, 30.0, 0.01], (n, 3)) + (0 if split == "train" else 1000)
        for n, split in zip(lengths, splits, strict=True)
    ]
    normaliser = fitted(sequences, splits)
    seen = np.concatenate([s for s, split in zip(sequences, splits, strict=True) if split == "train"])
    single = seen.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(normaliser.mean.numpy(), single.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(normaliser.scale.numpy(), single.std(axis=0), rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 7.3, -1e5])
def test_a_constant_feature_keeps_scale_one(fitted: Callable[..., Normaliser], value: float) -> None:
    varying = np.array([[1.0], [3.0], [5.0]])
    normaliser = fitted([np.hstack([np.full((3, 1), value), varying])], ["train"])
    assert normaliser.scale.tolist() == pytest.approx([1.0, math.sqrt(8 / 3)])
    sequence = ModalitySequence.pad([torch.tensor([[value, 3.0]])])
    torch.testing.assert_close(normaliser(sequence).values, torch.zeros(1, 1, 2))


def test_a_modality_that_no_training_clip_has_is_left_as_it_is(fitted: Callable[..., Normaliser]) -> None:
    normaliser = fitted([np.zeros((0, 2)), np.full((3, 2), 9.0)], ["train", "test"])
    assert normaliser.mean.tolist() == [0.0, 0.0]
    assert normaliser.scale.tolist() == [1.0, 1.0]


def test_outliers_are_clamped_in_standard_deviations() -> None:
    normaliser = Normaliser(1)
    normaliser.mean.fill_(2.0)
    normaliser.scale.fill_(0.5)
    steps = torch.tensor([[2.0], [3.0], [2.0 + 0.5 * CLAMP], [1e6], [-1e6]])
    out = normaliser(ModalitySequence.pad([steps]))
    assert out.values[0, :, 0].tolist() == [0.0, 2.0, CLAMP, CLAMP, -CLAMP]


def test_masked_positions_cannot_poison_the_normaliser() -> None:
    values = torch.tensor([[[1.0], [math.nan]]])
    out = Normaliser(1)(ModalitySequence(values, torch.tensor([[True, False]])))
    assert out.values.isfinite().all()
    assert out.mask.tolist() == [[True, False]]


def sample() -> dict[str, ModalitySequence]:
    generator = torch.Generator().manual_seed(3)
    steps = {"text": (3, 5, 2), "audio": (7, 1, 4)}
    dims = {"text": 3, "audio": 2}
    return {
        key: ModalitySequence.pad([torch.randn(n, dims[key], generator=generator) * 4 + 1 for n in lengths])
        for key, lengths in steps.items()
    }


def test_the_head_sees_normalised_values() -> None:
    model = MultimodalModel(CONFIG)
    normaliser = cast(Normaliser, model.normalisers["text"])
    normaliser.mean.copy_(torch.tensor([1.0, 0.0, -1.0]))
    normaliser.scale.copy_(torch.tensor([2.0, 1.0, 0.5]))
    inputs = sample()
    real = inputs["text"].mask
    seen = model.prepare(inputs)
    expected = (inputs["text"].values[real] - normaliser.mean) / normaliser.scale
    torch.testing.assert_close(seen["text"].values[real], expected.clamp(-CLAMP, CLAMP))
    torch.testing.assert_close(seen["audio"].values[inputs["audio"].mask], inputs["audio"].values[inputs["audio"].mask])
    model.eval()
    torch.testing.assert_close(model(inputs).prediction, model.head(seen).prediction)


def test_a_head_that_needs_alignment_gets_the_grid() -> None:
    model = MultimodalModel(replace(CONFIG, grid_steps=6))
    inputs = sample()
    ragged = model.prepare(inputs)
    assert {key: s.values.shape[1] for key, s in ragged.items()} == {"text": 5, "audio": 7}
    model.head.needs_alignment = True
    aligned = model.prepare(inputs)
    for key, sequence in common_grid(ragged, 6).items():
        torch.testing.assert_close(aligned[key].values, sequence.values)
        assert aligned[key].values.shape[1] == 6


def test_aligned_features_keep_their_steps() -> None:
    model = MultimodalModel(replace(CONFIG, grid_steps=None))
    model.head.needs_alignment = True
    inputs = sample()
    with pytest.raises(UsageError, match=r"not aligned.*grid_steps"):
        model.prepare(inputs)
    shared = {key: ModalitySequence(s.values[:, :5], inputs["text"].mask) for key, s in inputs.items()}
    for key, sequence in model.prepare(shared).items():
        torch.testing.assert_close(sequence.values, model.normalisers[key](shared[key]).values)
        assert torch.equal(sequence.mask, inputs["text"].mask)


def test_normalisers_are_saved_but_not_trained() -> None:
    model = MultimodalModel(CONFIG)
    assert {"normalisers.text.mean", "normalisers.audio.scale"} <= set(model.state_dict())
    assert not [name for name, _ in model.named_parameters() if name.startswith("normalisers")]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(CONFIG, head="lat"), "no fusion head is called 'lat'. Did you mean 'late'?"),
        (
            replace(CONFIG, head_options={"hiden_dim": 8, "zzz": 1}),
            "LateFusion takes no hiden_dim, zzz; its options are hidden_dim, encoder",
        ),
        (replace(CONFIG, head_options={"output_dim": 8}), "LateFusion takes no output_dim"),
        (replace(CONFIG, head_options={"combination": "best"}), "one of learned, gated, mean, not 'best'"),
        (replace(CONFIG, head_options={"hidden_dim": "wide"}), "'late' cannot be built with {'hidden_dim': 'wide'}: "),
        (replace(CONFIG, head_options={"dropout": None}), "'late' cannot be built with {'dropout': None}: "),
        (replace(CONFIG, input_dims={"text": 0}), "sizes must be positive, but text is 0"),
    ],
)
def test_what_a_head_refuses_is_a_usage_error(config: ModelConfig, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MultimodalModel(config)


def test_outputs_are_split_in_the_order_of_the_tasks() -> None:
    parts = split_outputs((EMOTION, SENTIMENT), torch.arange(8.0).view(2, 4))
    assert parts["emotion"].tolist() == [[0, 1, 2], [4, 5, 6]]
    assert parts["sentiment"].tolist() == [[3], [7]]


def test_people_read_scores_and_probabilities() -> None:
    logits = torch.tensor([[0.0, 0.0, math.log(2), 7.0], [math.log(3), math.log(3), 0.0, -1.0]])
    expected = torch.tensor([[1 / 4, 1 / 4, 2 / 4, 7.0], [3 / 7, 3 / 7, 1 / 7, -1.0]])
    torch.testing.assert_close(readable((EMOTION, SENTIMENT), logits), expected)


def test_people_read_a_probability_for_each_of_several_classes() -> None:
    logits = torch.tensor([[5.0, 0.0, math.log(3)], [-2.0, -math.log(4), 0.0]])
    expected = torch.tensor([[5.0, 1 / 2, 3 / 4], [-2.0, 1 / 5, 1 / 2]])
    torch.testing.assert_close(readable((SENTIMENT, MOODS), logits), expected)
