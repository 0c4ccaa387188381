"""The checks must fail on heads that break the contract, one mutation at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from fusion import testing
from fusion.head import FusionHead, stack_present
from fusion.output import FusionOutput
from fusion.pooling import AttentionPooling, masked_mean
from fusion.sequence import ModalitySequence

DIMS = {"audio": 2, "text": 3}
LENGTHS = {"audio": [5, 2, 3], "text": [3, 4, 0]}


class Sound(FusionHead):
    """A small head that keeps the contract: attention-pooled modalities, averaged over those that are there."""

    name = "sound"
    family = "late"
    paper = "none 2000"

    def __init__(self, input_dims: Mapping[str, int], output_dim: int) -> None:
        super().__init__(input_dims, output_dim)
        self.pools = nn.ModuleDict({key: AttentionPooling(dim) for key, dim in self.input_dims.items()})
        self.outputs = nn.ModuleDict({key: nn.Linear(dim, output_dim) for key, dim in self.input_dims.items()})

    def shares(self, inputs: dict[str, ModalitySequence]) -> Tensor:
        present = stack_present(inputs)
        return present / present.sum(dim=1, keepdim=True).clamp(min=1)

    def pooled(self, key: str, sequence: ModalitySequence) -> Tensor:
        return self.pools[key](sequence)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        shares = self.shares(inputs)
        unimodal = {
            key: self.outputs[key](self.pooled(key, sequence)) * sequence.present.unsqueeze(1)
            for key, sequence in inputs.items()
        }
        prediction = torch.einsum("bm,mbo->bo", shares, torch.stack(list(unimodal.values())))
        weights = dict(zip(inputs, shares.unbind(dim=1), strict=True))
        return FusionOutput(prediction, unimodal=unimodal, weights=weights)


def build(kind: type[FusionHead]) -> FusionHead:
    torch.manual_seed(0)
    return kind(DIMS, 2)


def batch(seed: int = 0) -> testing.Batch:
    return testing.ragged_batch(DIMS, LENGTHS, seed=seed)


CHECKS: dict[str, Callable[[FusionHead], object]] = {
    "output": lambda head: testing.check_output(head, batch()),
    "padding": lambda head: testing.check_padding_blind(head, batch()),
    "missing": lambda head: testing.check_missing_proof(head, batch()),
    "gradient": lambda head: testing.check_no_gradient_to_masked(head, batch()),
    "trains": lambda head: testing.check_trains(head, batch()),
    "registered": testing.check_registered,
    "one clip": lambda head: testing.check_trains_on_one_clip(head, batch()),
    "export": lambda head: testing.check_export(head, batch(), batch(seed=1)),
}


@pytest.mark.parametrize("check", CHECKS)
def test_a_sound_head_passes(check: str) -> None:
    CHECKS[check](build(Sound))


class CountsPadding(Sound):
    """Divides by the padded length."""

    def pooled(self, key: str, sequence: ModalitySequence) -> Tensor:
        return sequence.values.mean(dim=1)


class NormalisesOverTheBatch(Sound):
    """Subtracts the mean of the batch."""

    def pooled(self, key: str, sequence: ModalitySequence) -> Tensor:
        pooled = super().pooled(key, sequence)
        return pooled - pooled.mean(dim=0)


class ReadsPadding(Sound):
    """Lets masked steps through: what stands there is seen."""

    def _prepare(self, key: str, inputs: Mapping[str, ModalitySequence]) -> ModalitySequence:
        sequence = inputs[key] if key in inputs else super()._prepare(key, inputs)
        return ModalitySequence(sequence.values.nan_to_num(), sequence.mask)

    def pooled(self, key: str, sequence: ModalitySequence) -> Tensor:
        return sequence.values.sum(dim=1)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        parts = [self.outputs[key](self.pooled(key, sequence)) for key, sequence in inputs.items()]
        return FusionOutput(torch.stack(parts).sum(dim=0))


class HidesAParameter(Sound):
    """Keeps a trained tensor in a plain list, where no optimiser finds it."""

    def __init__(self, input_dims: Mapping[str, int], output_dim: int) -> None:
        super().__init__(input_dims, output_dim)
        self.factors = [nn.Parameter(torch.ones(output_dim))]

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        return FusionOutput(super().fuse(inputs).prediction * self.factors[0])


class HidesDeeper(Sound):
    """The same inside a dict inside a submodule."""

    def __init__(self, input_dims: Mapping[str, int], output_dim: int) -> None:
        super().__init__(input_dims, output_dim)
        self.pools["text"].extra = {"scales": (torch.ones(3),)}


class LetsTheMissingSpeak(Sound):
    """Counts a missing modality like any other."""

    def shares(self, inputs: dict[str, ModalitySequence]) -> Tensor:
        return torch.full((len(next(iter(inputs.values())).values), len(inputs)), 1 / len(inputs))


class PredictsFromNothing(Sound):
    """Shows a unimodal prediction (the bias) for clips without the modality."""

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        output = super().fuse(inputs)
        return FusionOutput(output.prediction, unimodal={k: self.outputs[k](masked_mean(s)) for k, s in inputs.items()})


class WeighsTooMuch(Sound):
    """Reports weights that sum to 2."""

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        output = super().fuse(inputs)
        return FusionOutput(output.prediction, weights={key: 2 * w for key, w in output.weights.items()})


class WeighsNegatively(Sound):
    """Reports a negative weight and one above 1, which still sum to 1."""

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        output = super().fuse(inputs)
        audio, text = output.weights["audio"] + 1, output.weights["text"] - 1
        return FusionOutput(output.prediction, weights={"audio": audio, "text": text})


class ForgetsAWeight(Sound):
    """Reports weights for some modalities only."""

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        output = super().fuse(inputs)
        return FusionOutput(output.prediction, weights={"text": output.weights["text"]})


class DividesByZero(Sound):
    """A clip without text gives 0 / 0."""

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        text = inputs["text"]
        mean = text.values.sum(dim=1) / text.lengths.unsqueeze(1)
        return FusionOutput(self.outputs["text"](mean))


class HasTheWrongShape(Sound):
    """One output too few."""

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        return FusionOutput(super().fuse(inputs).prediction[:, :1])


class AsksForAVector(Sound):
    """A loss per clip instead of a scalar."""

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        output = super().fuse(inputs)
        return FusionOutput(output.prediction, losses={"size": output.prediction.square().mean(dim=1)})


class HasADeadParameter(Sound):
    """A registered parameter that nothing uses."""

    def __init__(self, input_dims: Mapping[str, int], output_dim: int) -> None:
        super().__init__(input_dims, output_dim)
        self.unused = nn.Linear(1, 1)


class DividesByTheOtherClips(Sound):
    """Sample variance over the batch: not a number for a batch of one clip."""

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        output = super().fuse(inputs)
        return FusionOutput(output.prediction, losses={"spread": output.prediction.var(dim=0).sum()})


class CountsItsCalls(Sound):
    """Keeps state in a Python number, which an exported program remembers as it was."""

    calls = 0

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        self.calls += 1
        return FusionOutput(super().fuse(inputs).prediction + self.calls)


class TeachesPadding(Sound):
    """A regulariser over all positions, masked ones included."""

    def forward(self, inputs: Mapping[str, ModalitySequence]) -> FusionOutput:
        output = super().forward(inputs)
        size = torch.stack([s.values.square().mean() for s in inputs.values()]).sum()
        return FusionOutput(output.prediction, losses={"size": size})


@pytest.mark.filterwarnings("ignore:var")  # one mutant takes the variance of one clip
@pytest.mark.parametrize(
    ("mutant", "check", "message"),
    [
        (CountsPadding, "padding", "prediction changes with padding of 10000"),
        (NormalisesOverTheBatch, "padding", "prediction of clip 0 depends on the other clips"),
        (ReadsPadding, "padding", "prediction changes with padding of 10000"),
        (ReadsPadding, "missing", "prediction sees the content of missing"),
        (ReadsPadding, "gradient", "masked positions of audio get a gradient"),
        (TeachesPadding, "gradient", "masked positions of audio get a gradient"),
        (HidesAParameter, "registered", "HidesAParameter.factors holds a tensor that is not registered"),
        (HidesDeeper, "registered", "AttentionPooling.extra holds a tensor that is not registered"),
        (LetsTheMissingSpeak, "output", "text has weight where it is missing"),
        (PredictsFromNothing, "output", r"unimodal\[text\] is not zero where text is missing"),
        (WeighsTooMuch, "output", "weights do not sum to 1"),
        (WeighsNegatively, "output", "a weight of text is negative"),
        (ForgetsAWeight, "output", r"weights for \['text'\] only"),
        (DividesByZero, "output", "prediction is not finite"),
        (DividesByZero, "trains", "the training loss is not finite"),
        (HasTheWrongShape, "output", r"prediction is \(3, 1\)"),
        (AsksForAVector, "output", "loss size is not a scalar"),
        (HasADeadParameter, "trains", "parameters without a gradient: unused.weight, unused.bias"),
        (DividesByTheOtherClips, "one clip", "the training loss of a single clip is not finite"),
        (CountsItsCalls, "export", "prediction differs after torch.export"),
    ],
)
def test_a_mutant_is_caught(mutant: type[FusionHead], check: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        CHECKS[check](build(mutant))


def test_ragged_batches_are_what_was_asked_for() -> None:
    made = testing.ragged_batch(DIMS, LENGTHS, slack=2)
    assert made["audio"].lengths.tolist() == [5, 2, 3]
    assert made["text"].values.shape == (3, 6, 3)
    assert made["text"].values[~made["text"].mask].isnan().all()
    assert torch.isfinite(made["text"].values[made["text"].mask]).all()
    again, other = (testing.ragged_batch(DIMS, LENGTHS, seed=seed, slack=2)["text"].zeroed() for seed in (0, 1))
    assert torch.equal(again.values, made["text"].zeroed().values)
    assert not torch.equal(other.values, made["text"].zeroed().values)


def test_a_clip_taken_alone_keeps_its_steps_and_drops_its_padding() -> None:
    made = batch()
    clip = testing.take_clip(made, 1)
    for key, length in (("audio", 2), ("text", 4)):
        assert clip[key].mask.tolist() == [[True] * length]
        assert torch.equal(clip[key].values[0], made[key].values[1, :length])
    assert testing.take_clip(made, 2)["text"].mask.tolist() == [[False]]


def test_masking_out_leaves_the_content() -> None:
    made = batch()
    masked = testing.without(made, ["text"])
    assert not masked["text"].mask.any()
    assert masked["text"].values is made["text"].values
    assert masked["audio"] is made["audio"]
