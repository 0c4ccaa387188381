"""What every encoder keeps to, on a text, a speech and an image encoder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fusion import ModalitySequence
from mmsa.encoders import build_encoder, encoder
from mmsa.encoders.config import EncoderConfig
from mmsa.encoders.encoder import Encoder
from mmsa.encoders.spec import encoder_spec
from mmsa.errors import UsageError

Build = Callable[..., Encoder]
KINDS = ("bert", "wav2vec2", "wav2vec2_group", "vit")
MODALITIES = {"bert": "text", "wav2vec2": "audio", "wav2vec2_group": "audio", "vit": "vision"}


@pytest.fixture(params=KINDS)
def build(request: pytest.FixtureRequest) -> Build:
    """`(tune, **settings)` → an encoder of one kind."""
    folder: Path = request.getfixturevalue(request.param)

    def built(tune: str = "frozen", **settings: Any) -> Encoder:
        torch.manual_seed(3)
        config = EncoderConfig(model=str(folder), tune=tune, **settings)  # type: ignore[arg-type]
        return build_encoder(encoder_spec(MODALITIES[request.param], config))

    return built


def raw_clips(own: Encoder, lengths: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    """Raw sequences of so many steps that the encoder can read."""
    generator = torch.Generator().manual_seed(seed)
    if own.spec.modality == "text":
        return [
            torch.stack([torch.zeros(n), torch.randint(4, 18, (n,), generator=generator).float(), torch.ones(n)], dim=1)
            for n in lengths
        ]
    width = own.probe().shape[1]
    return [torch.randn(n, width, generator=generator) for n in lengths]


def padded(sequence: ModalitySequence, more: int, fill: float) -> ModalitySequence:
    pad = torch.nn.functional.pad
    values = pad(sequence.values, (0, 0, 0, more))
    mask = pad(sequence.mask, (0, more))
    return ModalitySequence(torch.where(mask.unsqueeze(2), values, fill), mask)


@pytest.mark.parametrize("fill", [7.0, float("nan")])
def test_padding_and_neighbours_change_nothing(build: Build, fill: float) -> None:
    own = build()
    clips = raw_clips(own, (5, 2, 1, 5))
    batch = padded(ModalitySequence.pad(clips), 9, fill)
    with torch.no_grad():
        found = own(batch)
        for row, clip in enumerate(clips):
            alone = own(ModalitySequence.pad([clip]))
            torch.testing.assert_close(
                found.values[row][found.mask[row]], alone.values[0][alone.mask[0]], atol=1e-5, rtol=0
            )
    assert (found.values[~found.mask] == 0).all()


def test_a_clip_without_the_modality_never_reaches_the_network(build: Build) -> None:
    own = build("lora").train()
    clips = raw_clips(own, (3, 0, 2))
    batch = padded(ModalitySequence.pad(clips), 1, float("inf"))
    seen: list[int] = []
    whole = own.encode
    own.encode = lambda sequence: (seen.append(len(sequence.mask)), whole(sequence))[1]  # type: ignore[method-assign]
    found = own(batch)
    assert seen == [2]
    assert found.present.tolist() == [True, False, True]
    found.values.sum().backward()
    gradients = [p.grad for p in own.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(g.isfinite().all()) for g in gradients)
    nobody = own(ModalitySequence(batch.values, torch.zeros_like(batch.mask)))
    assert seen == [2]
    assert nobody.values.shape == (3, 1, own.dim)
    assert not nobody.mask.any()


def test_gaps_are_closed(build: Build) -> None:
    """Real steps with a hole between them are read as if it were not there."""
    own = build()
    (clip,) = raw_clips(own, (4,))
    holed = torch.cat([clip[:2], torch.full_like(clip[:1], 5.0), clip[2:]])
    mask = torch.tensor([[True, True, False, True, True]])
    with torch.no_grad():
        found, expected = own(ModalitySequence(holed[None], mask)), own(ModalitySequence.pad([clip]))
    torch.testing.assert_close(found.values[found.mask], expected.values[expected.mask])


@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_what_is_trained(build: Build, tune: str) -> None:
    """After one step of an optimiser: nothing moved; only adapters; every weight that counts."""
    own = build(tune).train()
    before = {name: value.clone() for name, value in own.named_parameters()}
    batch = ModalitySequence.pad(raw_clips(own, (4, 2)))
    trained = [p for p in own.parameters() if p.requires_grad]
    if tune == "frozen":
        assert not trained
        assert not own(batch).values.requires_grad
        return
    optimiser = torch.optim.SGD(trained, lr=0.1)
    for _ in range(2):  # what stands before `B = 0` has no gradient at first
        optimiser.zero_grad()
        (own(batch).values * torch.linspace(-1, 1, own.dim)).sum().backward()
        assert all(p.grad is not None for p in trained)
        optimiser.step()
    moved = {name for name, value in own.named_parameters() if not torch.equal(value, before[name])}
    if tune == "lora":
        assert moved == {name for name in before if ".lora_" in name}
        assert not any(p.requires_grad for name, p in own.named_parameters() if ".lora_" not in name)
    else:
        # The keys' bias moves all scores of a query alike, which softmax does not see.
        still = {name for name in set(before) - moved if not name.endswith(("key.bias", "k_proj.bias"))}
        assert {name for name in still if own.get_parameter(name).requires_grad} == set()
        assert still <= {"network.masked_spec_embed"}


def test_adapters_start_as_nothing(build: Build) -> None:
    batch = ModalitySequence.pad(raw_clips(build(), (4, 2)))
    with torch.no_grad():
        assert torch.equal(build("lora")(batch).values, build("frozen")(batch).values)


def test_a_frozen_one_stays_in_evaluation_mode(build: Build) -> None:
    assert not any(module.training for module in build("frozen").train().modules())
    assert all(module.training for module in build("lora").train().network.modules())
    assert not build("lora").train().eval().network.training


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_checkpointing_changes_no_number(build: Build, tune: str) -> None:
    """With dropout, whose draws must be repeated; and it is really on: layers run twice."""
    found = []
    for checkpointing in (False, True):
        own = build(tune, gradient_checkpointing=checkpointing).train()
        if checkpointing:
            own.checkpoint_activations()
        calls: list[str] = []
        for name, module in own.network.named_modules():
            if f".{name}".endswith((".layer.0", ".layers.0")) and "conv" not in name:
                inner = next(m for m in module.modules() if isinstance(m, torch.nn.LayerNorm))
                inner.register_forward_hook(lambda *_, name=name, calls=calls: calls.append(name))
        batch = ModalitySequence.pad(raw_clips(own, (4, 2)))
        torch.manual_seed(11)
        output = own(batch).values
        output.square().sum().backward()
        found.append((output.detach(), [p.grad for p in own.parameters() if p.requires_grad], len(calls)))
    (output, gradients, once), (again, others, twice) = found
    assert torch.equal(output, again)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert twice == 2 * once > 0


@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_the_state_holds_what_training_changes(build: Build, tune: str) -> None:
    own = build(tune)
    with torch.no_grad():
        for parameter in own.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    state = copy.deepcopy(own.state_dict())
    assert set(state) == {name for name, p in own.named_parameters() if p.requires_grad}
    other = build_encoder(own.spec, pretrained=False)
    outer = torch.nn.ModuleDict({"own": other})
    outer.load_state_dict({f"own.{key}": value for key, value in state.items()})
    batch = ModalitySequence.pad(raw_clips(own, (4, 2)))
    with torch.no_grad():
        torch.testing.assert_close(other(batch).values, own(batch).values, atol=1e-6, rtol=0)
    if state:
        state.pop(next(iter(state)))
        with pytest.raises(RuntimeError, match="Missing key"):
            other.load_state_dict(state)


def test_without_gradient_in_parts(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    own = build("lora")
    batch = ModalitySequence.pad(raw_clips(own, (3, 1, 2, 3, 5)))
    sizes: list[int] = []
    own.network.register_forward_pre_hook(
        lambda _, args, given: sizes.append(len(next(iter([*args, *given.values()])))), with_kwargs=True
    )
    with torch.no_grad():
        whole = own(batch)
        monkeypatch.setattr(encoder, "AT_ONCE", 2)
        sizes.clear()
        parts = own(batch)
    assert max(sizes) <= 2
    torch.testing.assert_close(parts.values, whole.values, atol=1e-6, rtol=0)
    sizes.clear()
    own(batch)  # with a gradient, everything at once, but for sounds that must be of one length
    assert sum(sizes) >= 5
    assert len(sizes) == (4 if own.spec.reads.get("whole") else 1)


def test_layers_behind_the_chosen_one_are_not_trained(build: Build) -> None:
    own = build("full", layer=1)
    trained = {name for name, p in own.named_parameters() if p.requires_grad}
    assert any(".layer.0." in name or ".layers.0." in name for name in trained)
    assert not any(".layer.1." in name or ".layers.1." in name for name in trained)


def test_a_network_of_another_width(bert: Path) -> None:
    from dataclasses import replace

    spec = encoder_spec("text", EncoderConfig(model=str(bert), tune="frozen"))
    with pytest.raises(UsageError, match=r"gives 24 numbers where its configuration announces 25"):
        build_encoder(replace(spec, dim=25))


def test_checkpointing_that_a_network_cannot(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    own = build("lora")

    def refuse(_: object) -> None:
        raise ValueError("it does not support gradient checkpointing")

    name = "activation_checkpointing_enable"
    monkeypatch.setattr(own.network, name if hasattr(own.network, name) else "gradient_checkpointing_enable", refuse)
    with pytest.raises(UsageError, match=r"encoders\.\w+\.gradient_checkpointing: it does not support"):
        own.checkpoint_activations()
