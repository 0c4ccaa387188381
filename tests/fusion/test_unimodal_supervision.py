"""Unimodal supervision gives every head unimodal outputs that really are unimodal, and masked losses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusion import testing
from fusion.catalog import head_class, head_classes
from fusion.head import FusionHead
from fusion.late import LateFusion
from fusion.modality_dropout import ModalityDropout
from fusion.output import FusionOutput
from fusion.pooling import masked_mean
from fusion.sequence import ModalitySequence
from fusion.unimodal_supervision import UnimodalSupervision

DIMS = {"audio": 3, "text": 6, "vision": 4}
LENGTHS = {"text": [4, 1, 6, 3], "audio": [9, 7, 1, 8], "vision": [5, 0, 2, 7]}
NAN = float("nan")


class Concatenation(FusionHead):
    """Vectors of single modalities, mixed by `mix` into what it calls their representations."""

    name, family, paper = "concatenation", "early", "Nobody, 2026"

    def __init__(self, mix: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict) -> None:
        super().__init__(DIMS, 2)
        self.mix = mix
        self.maps = nn.ModuleDict({key: nn.Linear(dim, 5) for key, dim in self.input_dims.items()})
        self.output = nn.Linear(15, 2)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        vectors = {key: self.maps[key](masked_mean(s)) * s.present[:, None] for key, s in inputs.items()}
        return FusionOutput(self.output(torch.cat(list(vectors.values()), dim=1)), representations=self.mix(vectors))


def batch_for(head: FusionHead) -> testing.Batch:
    return testing.ragged_batch(DIMS, {key: [4, 1, 6, 3] for key in DIMS} if head.needs_alignment else LENGTHS)


def tell_all(vectors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Vision hears audio, through a gate that is still shut."""
    return {**vectors, "vision": vectors["vision"] + 0.0 * vectors["audio"]}


def test_the_source_of_each_prediction() -> None:
    torch.manual_seed(0)
    assert set(UnimodalSupervision(LateFusion(DIMS, 2)).sources.values()) == {"unimodal"}
    assert set(UnimodalSupervision(Concatenation()).sources.values()) == {"representations"}
    assert set(UnimodalSupervision(Concatenation(lambda vectors: {})).sources.values()) == {"own"}
    mixed = UnimodalSupervision(Concatenation(tell_all))
    assert mixed.sources == {"audio": "representations", "text": "representations", "vision": "own"}


def test_a_shared_subnetwork_learns_from_the_unimodal_label() -> None:
    """As in MTFN: the label of text alone reaches the head's own map of text, and no other."""
    torch.manual_seed(0)
    wrapper = UnimodalSupervision(Concatenation())
    output = wrapper(testing.ragged_batch(DIMS, LENGTHS))
    wrapper.unimodal_losses(output, {"text": torch.ones(4, 2)})["unimodal_text"].backward()
    assert wrapper.head.maps["text"].weight.grad.abs().sum() > 0
    assert wrapper.head.maps["audio"].weight.grad is None
    assert wrapper.head.output.weight.grad is None


def test_losses_are_masked_means_by_hand() -> None:
    wrapper = UnimodalSupervision(LateFusion(DIMS, 2), weights={"audio": 2.0, "vision": 0.5})
    output = FusionOutput(
        prediction=torch.zeros(4, 2),
        unimodal={
            "audio": torch.tensor([[1.0, 0.0], [2.0, 5.0], [0.0, 0.0], [3.0, 1.0]]),
            "text": torch.ones(4, 2),
            "vision": torch.tensor([[1.0, 1.0], [0.0, 0.0], [7.0, 7.0], [2.0, 2.0]]),
        },
        representations={"present": torch.tensor([[1.0, 1, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1]])},
    )
    targets = {
        "audio": torch.tensor([[0.0, 0.0], [NAN, 1.0], [9.0, 9.0], [1.0, NAN]]),
        "text": torch.zeros(4, 2),
        "vision": torch.tensor([[0.0, -1.0], [9.0, 9.0], [NAN, NAN], [4.0, 2.0]]),
    }
    losses = wrapper.unimodal_losses(output, targets)
    # audio: |1-0|, |0-0|, |5-1|, |3-1| over 4 labels, doubled; vision: 1, 2, 2, 0 over 4, halved; text: no weight.
    assert set(losses) == {"unimodal_audio", "unimodal_vision"}
    assert losses["unimodal_audio"].item() == pytest.approx(2 * 7 / 4)
    assert losses["unimodal_vision"].item() == pytest.approx(0.5 * 5 / 4)


def test_a_criterion_per_clip() -> None:
    """Cross-entropy of the two clips that are labelled and there; NaN never reaches it."""
    wrapper = UnimodalSupervision(LateFusion(DIMS, 3))
    logits = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, -1.0, 1.0], [1.0, 1.0, 1.0]])
    output = FusionOutput(
        torch.zeros(4, 3),
        unimodal={"text": logits},
        representations={"present": torch.tensor([[0.0, 1, 0], [0, 0, 0], [0, 1, 0], [0, 1, 0]])},
    )
    target = F.one_hot(torch.tensor([1, 2, 0, 2]), 3).float()
    target[3] = NAN

    def criterion(prediction: Tensor, wanted: Tensor) -> Tensor:
        assert torch.isfinite(wanted).all()
        return F.cross_entropy(prediction, wanted, reduction="none")

    loss = wrapper.unimodal_losses(output, {"text": target}, criterion=criterion)["unimodal_text"]
    expected = [-torch.log_softmax(logits[0], 0)[1], -torch.log_softmax(logits[2], 0)[0]]
    assert loss.item() == pytest.approx(torch.stack(expected).mean().item())


def test_nothing_labelled_is_zero_and_still_has_a_gradient_graph() -> None:
    torch.manual_seed(0)
    wrapper = UnimodalSupervision(Concatenation())
    output = wrapper(testing.ragged_batch(DIMS, LENGTHS))
    loss = wrapper.unimodal_losses(output, {"text": torch.full((4, 2), NAN)})["unimodal_text"]
    assert loss.item() == 0
    loss.backward()
    assert (wrapper.head.maps["text"].weight.grad == 0).all()


@pytest.mark.parametrize("name", list(head_classes()))
def test_around_every_head(name: str) -> None:
    """Unimodal predictions see their own modality only, where the wrapper made them; the head is not touched."""
    torch.manual_seed(0)
    head = head_class(name)(input_dims=DIMS, output_dim=2)
    wrapper = UnimodalSupervision(head).eval()
    batch = batch_for(head)
    with torch.no_grad():
        output = testing.check_output(wrapper, batch)
        assert torch.equal(output.prediction, head(batch).prediction)
        assert sorted(output.unimodal) == sorted(DIMS)
        present = torch.stack([batch[key].present for key in sorted(DIMS)], dim=1)
        assert torch.equal(output.representations["present"], present.float())
        for key in wrapper.modalities:
            if wrapper.sources[key] == "unimodal":
                continue
            alone = wrapper({key: batch[key]}).unimodal[key]
            assert torch.allclose(alone, output.unimodal[key], atol=1e-5), f"unimodal[{key}] hears other modalities"
            assert output.unimodal[key][0].abs().sum() > 0
    testing.check_padding_blind(wrapper, batch)
    testing.check_missing_proof(wrapper, batch)


@pytest.mark.parametrize("name", list(head_classes()))
def test_what_the_wrapper_adds_is_trained(name: str) -> None:
    torch.manual_seed(0)
    head = head_class(name)(input_dims=DIMS, output_dim=2)
    wrapper = UnimodalSupervision(head, dropout=0.0).train()
    output = wrapper(batch_for(head))
    targets = {key: torch.full((4, 2), 0.5) for key in DIMS}
    losses = wrapper.unimodal_losses(output, targets)
    assert set(losses) == {f"unimodal_{key}" for key in DIMS}
    sum(losses.values()).backward()
    for part in (wrapper.readouts, wrapper.predictors):
        for parameter_name, parameter in part.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert torch.isfinite(parameter.grad).all()
            assert (parameter.grad != 0).any(), parameter_name


@pytest.mark.parametrize("name", ["late", "early"])
def test_exports(name: str) -> None:
    torch.manual_seed(0)
    wrapper = UnimodalSupervision(head_class(name)(input_dims=DIMS, output_dim=2))
    other = testing.ragged_batch(DIMS, LENGTHS, seed=1)
    testing.check_export(wrapper, batch_for(wrapper), other)


def test_construction_leaves_the_generator_and_the_mode_alone() -> None:
    """The probe draws no numbers: what follows is the same as after building the parts alone."""
    head = LateFusion(DIMS, 2).train()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    UnimodalSupervision(head)
    assert torch.equal(torch.rand(3), expected)
    assert all(part.training for part in head.modules())
    assert all(p.grad is None for p in head.parameters())


def test_dropped_modalities_get_no_unimodal_loss() -> None:
    """`ModalityDropout` around this wrapper: what it drops is missing, so its label does not count."""
    torch.manual_seed(0)
    supervised = UnimodalSupervision(Concatenation())
    dropout = ModalityDropout(supervised, {"text": 1.0}).train()
    output = dropout(testing.ragged_batch(DIMS, LENGTHS))
    losses = supervised.unimodal_losses(output, {key: torch.ones(4, 2) for key in DIMS})
    assert losses["unimodal_text"].item() == 0
    assert losses["unimodal_audio"].item() > 0


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="weights names smell, but the head fuses audio, text, vision"):
        UnimodalSupervision(Concatenation(), weights={"smell": 1.0})
    with pytest.raises(ValueError, match=r"weight of text must not be negative, but is -1\.0"):
        UnimodalSupervision(Concatenation(), weights={"text": -1.0})
    wrapper = UnimodalSupervision(Concatenation())
    output = wrapper(testing.ragged_batch(DIMS, LENGTHS))
    with pytest.raises(ValueError, match="target for smell, but the head fuses audio, text, vision"):
        wrapper.unimodal_losses(output, {"smell": torch.ones(4, 2)})
    with pytest.raises(ValueError, match=r"the target of text is \(4,\), but predictions are \(4, 2\)"):
        wrapper.unimodal_losses(output, {"text": torch.ones(4)})
