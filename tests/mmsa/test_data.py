from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from extractors.sequence import FeatureSequence
from fusion import ModalitySequence
from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.data import Batch, SplitData, inputs_from, target_matrix
from mmsa.features import FeatureTable
from mmsa.tasks import Classification, MultiLabel, Regression

SENTIMENT = Regression("sentiment", -1, 1)
EMOTION = Classification("emotion", ("calm", "glad", "cross"))
MOODS = MultiLabel("moods", ("happy", "sad"))
LENGTHS = {"text": (2, 0, 1, 3, 1), "audio": (0, 4, 1, 2, 0)}
SPLITS: tuple[Split, ...] = ("train", "test", "train", "train", "valid")
LABELS: tuple[dict[str, float | str], ...] = (
    {"sentiment": 0.5, "emotion": "cross"},
    {},
    {"emotion": "calm"},
    {"sentiment": -1.0},
    {"emotion": "glad"},
)


def steps_of(modality: str, clip: int) -> NDArray[np.float32]:
    """`(T, D)` numbers that say whose they are."""
    dim = {"text": 2, "audio": 1}[modality]
    length = LENGTHS[modality][clip]
    return (100 * (clip + 1) + np.arange(length * dim, dtype=np.float32) + 1).reshape(length, dim)


@pytest.fixture
def corpus(make_corpus: Callable[..., Corpus]) -> Corpus:
    return make_corpus((SENTIMENT, EMOTION), SPLITS, LABELS)


@pytest.fixture
def tables(make_table: Callable[..., FeatureTable]) -> dict[str, FeatureTable]:
    return {key: make_table(key, [steps_of(key, i) for i in range(5)]) for key in ("text", "audio")}


@pytest.fixture
def train(corpus: Corpus, tables: dict[str, FeatureTable]) -> SplitData:
    return SplitData(corpus, tables, "train", (SENTIMENT, EMOTION))


def assert_rows(batch: Batch, clips: list[int]) -> None:
    """Row `r` of the batch holds the steps of clip `clips[r]`, zeros and False after them."""
    for key, sequence in batch.inputs.items():
        assert sequence.values.shape[1] == max(1, *(LENGTHS[key][clip] for clip in clips))
        for row, clip in enumerate(clips):
            length = LENGTHS[key][clip]
            np.testing.assert_array_equal(sequence.values[row, :length].numpy(), steps_of(key, clip))
            assert not sequence.values[row, length:].any()
            assert sequence.mask[row].tolist() == [i < length for i in range(sequence.mask.shape[1])]


def test_a_split_has_its_own_clips_in_corpus_order(train: SplitData) -> None:
    assert [clip.id for clip in train.clips] == ["0", "2", "3"]
    assert len(train) == 3
    (batch,) = train.batches(8)
    assert batch.index.tolist() == [0, 1, 2]
    assert_rows(batch, [0, 2, 3])


def test_a_batch_is_padded_to_its_own_longest_clip(train: SplitData) -> None:
    first, second = train.batches(2)
    assert_rows(first, [0, 2])
    assert_rows(second, [3])
    assert_rows(train.batch(np.array([2, 0])), [3, 0])


def test_a_clip_without_steps_is_a_missing_row(train: SplitData) -> None:
    (batch,) = train.batches(8)
    assert batch.inputs["audio"].present.tolist() == [False, True, True]


def test_a_batch_in_which_all_lack_a_modality(corpus: Corpus, tables: dict[str, FeatureTable]) -> None:
    (batch,) = SplitData(corpus, tables, "valid", (SENTIMENT,)).batches(8)
    assert batch.inputs["audio"].values.tolist() == [[[0.0]]]
    assert batch.inputs["audio"].present.tolist() == [False]


def test_labels_are_encoded_and_absent_ones_are_nan(train: SplitData) -> None:
    assert train.labels["sentiment"][[0, 2]].tolist() == [0.5, -1.0]
    assert train.labels["emotion"][[0, 1]].tolist() == [2.0, 0.0]
    assert math.isnan(train.labels["sentiment"][1])
    assert math.isnan(train.labels["emotion"][2])
    labels = train.batch(np.array([2, 0])).labels["sentiment"]
    assert labels.tolist() == [-1.0, 0.5]


def test_a_batch_does_not_write_through_to_the_table(train: SplitData, tables: dict[str, FeatureTable]) -> None:
    before = tables["text"].values.copy()
    for batch in train.batches(2):
        batch.inputs["text"].values.zero_()
    np.testing.assert_array_equal(tables["text"].values, before)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(clips=st.integers(1, 23), size=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_clip_comes_exactly_once(clips: int, size: int, seed: int) -> None:
    corpus = Corpus("made", tuple(Clip(str(i), "train", {}) for i in range(clips)), (SENTIMENT,))
    data = SplitData(corpus, {}, "train", (SENTIMENT,))
    shuffled = [batch.index.tolist() for batch in data.batches(size, np.random.default_rng(seed))]
    assert sorted(i for index in shuffled for i in index) == list(range(clips))
    assert all(len(index) == size for index in shuffled[:-1])
    again = [batch.index.tolist() for batch in data.batches(size, np.random.default_rng(seed))]
    assert again == shuffled


def test_epochs_are_shuffled_differently(train: SplitData) -> None:
    generator = np.random.default_rng(0)
    orders = {tuple(i for batch in train.batches(1, generator) for i in batch.index.tolist()) for _ in range(20)}
    assert len(orders) > 1


def test_batches_by_length_hold_every_clip_once(train: SplitData) -> None:
    """Clips 0, 2 and 3 have 2, 2 and 5 steps."""
    batches = list(train.batches_by_length(2))
    assert [batch.index.tolist() for batch in batches] == [[2, 0], [1]]
    assert_rows(batches[0], [3, 0])
    assert batches[0].labels["sentiment"].tolist() == [-1.0, 0.5]


def test_what_is_present_is_known_without_reading(train: SplitData) -> None:
    assert train.lengths.tolist() == [[0, 2], [1, 1], [2, 3]]  # audio and text of the clips 0, 2 and 3
    assert train.present(np.array([2, 0])).tolist() == [[True, True], [False, True]]


def test_permuting_a_modality_gives_each_clip_anothers(corpus: Corpus, tables: dict[str, FeatureTable]) -> None:
    """Of the training clips 0, 2 and 3, two have audio and all have text."""
    split = SplitData(corpus, tables, "train", (SENTIMENT, EMOTION))
    swapped = split.permuted("audio", np.random.default_rng(0))
    (batch,) = swapped.batches(8)
    audio, text = batch.inputs["audio"], batch.inputs["text"]
    assert audio.lengths.tolist() == [0, 2, 1]
    np.testing.assert_array_equal(audio.values[1, :2].numpy(), steps_of("audio", 3))
    np.testing.assert_array_equal(audio.values[2, :1].numpy(), steps_of("audio", 2))
    (own,) = split.batches(8)
    assert torch.equal(text.values, own.inputs["text"].values)
    assert torch.equal(batch.labels["sentiment"].nan_to_num(), own.labels["sentiment"].nan_to_num())
    for seed in range(5):
        index = split.permuted("text", np.random.default_rng(seed)).starts["text"]
        assert not (index == split.starts["text"]).any()
        assert sorted(index) == sorted(split.starts["text"])


def test_moving_a_batch_moves_all_of_it(train: SplitData) -> None:
    batch = train.batch(np.array([0])).to(torch.device("meta"))
    tensors = [batch.index, *batch.labels.values()]
    tensors += [part for sequence in batch.inputs.values() for part in (sequence.values, sequence.mask)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_inputs_from_is_a_batch_of_one() -> None:
    times = np.array([[0.0, 1.0], [1.0, 2.0]])
    text = FeatureSequence(np.array([[1, 2], [3, 4]], np.float32), times, ("a", "b"))
    inputs = inputs_from({"text": text, "audio": FeatureSequence.empty(("c",))})
    assert list(inputs) == ["audio", "text"]
    assert isinstance(inputs["text"], ModalitySequence)
    assert inputs["text"].values.tolist() == [[[1, 2], [3, 4]]]
    assert inputs["text"].mask.tolist() == [[True, True]]
    assert inputs["audio"].present.tolist() == [False]


def test_targets_are_scores_and_one_hot_classes_in_order() -> None:
    nan = math.nan
    labels = {"emotion": torch.tensor([2.0, nan, 0.0]), "sentiment": torch.tensor([0.5, -1.0, nan])}
    found = target_matrix((EMOTION, SENTIMENT), labels)
    expected = torch.tensor([[0, 0, 1, 0.5], [nan, nan, nan, -1.0], [1, 0, 0, nan]])
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=0, atol=0)
    swapped = target_matrix((SENTIMENT, EMOTION), labels)
    torch.testing.assert_close(swapped, expected[:, [3, 0, 1, 2]], equal_nan=True, rtol=0, atol=0)


def test_labels_of_several_classes_are_rows_and_an_empty_one_is_no_missing_one(
    make_corpus: Callable[..., Corpus],
) -> None:
    labels = [{"moods": ("sad",)}, {}, {"moods": ()}, {"moods": ("sad", "happy")}]
    corpus = make_corpus((MOODS,), ["train"] * 4, labels)
    found = SplitData(corpus, {}, "train", (MOODS,)).labels["moods"]
    np.testing.assert_array_equal(found, np.array([[0, 1], [np.nan, np.nan], [0, 0], [1, 1]]))
    assert SplitData(corpus, {}, "test", (MOODS,)).labels["moods"].shape == (0, 2)
    with pytest.raises(ValueError, match="moods must be among happy, sad, not 'glad'"):
        make_corpus((MOODS,), ["train"], [{"moods": ("glad",)}])


def test_targets_of_several_classes_are_their_own_columns() -> None:
    moods = torch.tensor([[0.0, 1.0], [math.nan, math.nan]])
    found = target_matrix((SENTIMENT, MOODS), {"sentiment": torch.tensor([0.5, -1.0]), "moods": moods})
    torch.testing.assert_close(found, torch.tensor([[0.5, 0, 1], [-1.0, math.nan, math.nan]]), equal_nan=True)
