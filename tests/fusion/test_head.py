from __future__ import annotations

import pytest
import torch

from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence


class Recorder(FusionHead):
    """Returns zeros and keeps what `fuse` was given."""

    name = "recorder"
    family = "early"
    paper = "none 2000"

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        self.seen = inputs
        clips = next(iter(inputs.values())).values.shape[0]
        return FusionOutput(torch.zeros(clips, self.output_dim))


class AlignedPair(Recorder):
    needs_alignment = True
    minimum_modalities = 2


DIMS = {"text": 2, "audio": 1}


def ones(clips: int, steps: int, dim: int) -> ModalitySequence:
    return ModalitySequence(torch.ones(clips, steps, dim), torch.ones(clips, steps, dtype=torch.bool))


def test_modalities_are_sorted_and_left_out_ones_are_missing() -> None:
    head = Recorder(DIMS, 3)
    assert head.modalities == ("audio", "text")
    head({"text": ones(2, 4, 2)})
    assert list(head.seen) == ["audio", "text"]
    assert head.seen["audio"].values.shape == (2, 1, 1)
    assert not head.seen["audio"].mask.any()


def test_fuse_sees_zeros_where_masked() -> None:
    head = Recorder(DIMS, 3)
    values = torch.tensor([[[1.0, 2.0], [float("nan"), 1e9]]])
    head({"text": ModalitySequence(values, torch.tensor([[True, False]]))})
    assert head.seen["text"].values.tolist() == [[[1.0, 2.0], [0.0, 0.0]]]


def test_an_aligned_head_gets_missing_modalities_on_the_same_steps() -> None:
    head = AlignedPair(DIMS, 1)
    head({"text": ones(2, 4, 2)})
    assert head.seen["audio"].values.shape == (2, 4, 1)
    with pytest.raises(ValueError, match=r"needs aligned modalities.*'text': 4.*put them on one grid first"):
        head({"text": ones(2, 4, 2), "audio": ones(2, 3, 1)})


def test_the_dtype_of_a_stand_in_follows_the_others() -> None:
    head = Recorder(DIMS, 1)
    text = ones(1, 2, 2)
    head({"text": ModalitySequence(text.values.double(), text.mask)})
    assert head.seen["audio"].values.dtype == torch.float64


def test_wrong_inputs_are_named() -> None:
    head = Recorder(DIMS, 1)
    with pytest.raises(ValueError, match="built for audio, text and was given nothing"):
        head({})
    with pytest.raises(ValueError, match="built for audio, text and was given eeg, text"):
        head({"text": ones(1, 2, 2), "eeg": ones(1, 2, 2)})
    with pytest.raises(ValueError, match=r"same number of clips, not \{'text': 1, 'audio': 2\}"):
        head({"text": ones(1, 2, 2), "audio": ones(2, 2, 1)})
    with pytest.raises(ValueError, match="audio has 5 features per step, but the head was built for 1"):
        head({"audio": ones(1, 2, 5)})


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ValueError, match=r"AlignedPair fuses at least 2 modalities, but input_dims has \['text'\]"):
        AlignedPair({"text": 2}, 1)
    with pytest.raises(ValueError, match="sizes must be positive, but audio is 0"):
        Recorder({"audio": 0}, 1)
    with pytest.raises(ValueError, match="sizes must be positive, but output_dim is 0"):
        Recorder({"audio": 1}, 0)


def test_no_objectives_with_labels_unless_a_head_has_them() -> None:
    head = Recorder(DIMS, 1)
    output = head({"text": ones(1, 2, 2)})
    assert head.target_losses(output, torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64)) == {}


def test_present_columns_follow_the_inputs() -> None:
    some = ModalitySequence(torch.ones(2, 2, 1), torch.tensor([[False, True], [False, False]]))
    assert stack_present({"a": ones(2, 1, 1), "b": some}).tolist() == [[True, True], [True, False]]
