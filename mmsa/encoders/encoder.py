"""`Encoder`: raw input in, hidden states out; what is common to text, speech and images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fusion import ModalitySequence
from mmsa.encoders.architecture import add_adapters, empty_network, pretrained_network
from mmsa.encoders.spec import EncoderSpec
from mmsa.errors import UsageError

AT_ONCE = 64
"""Texts, stretches of sound or pictures that are encoded at once where no gradient is wanted."""


class Encoder(nn.Module, ABC):
    """A pretrained network in front of a head.

    Padding-blind and missing-proof like every head: a clip's hidden states depend on its own real steps, and a clip
    without any never reaches the network. A frozen encoder stays in evaluation mode and keeps no activations.

    What training does not change is no part of the state dict. So checkpoints and bundles of adapters are small, and
    the weights beneath them are found again by what the spec says of them.

    Args:
        spec: which network, and what is trained of it.
        pretrained: whether the weights are loaded; False only for one that is trained in full and gets a state dict.

    Raises:
        UsageError: weights or a library cannot be had, or the network is not one of its kind.
    """

    def __init__(self, spec: EncoderSpec, *, pretrained: bool = True) -> None:
        super().__init__()
        self.spec = spec
        self.dim = spec.dim
        needed = pretrained or spec.tune != "full"
        self.network: Any = pretrained_network(spec) if needed else empty_network(spec.architecture)
        self._choose_trained()
        self._left_out = frozenset(self._unchanged())
        self.register_state_dict_post_hook(_leave_out)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_do_not_miss)  # type: ignore[no-untyped-call]
        self.eval()

    @abstractmethod
    def encode(self, sequence: ModalitySequence) -> ModalitySequence:
        """Hidden states of clips that all have a step, real steps first: `(R, T, F)` raw → `(R, T', D)` float32."""

    @abstractmethod
    def probe(self) -> Tensor:
        """`(T, F)`: a short raw sequence that every layer has something to do for."""

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        """Hidden states of a batch.

        Args:
            sequence: `(B, T, F)` raw steps.

        Returns:
            `(B, T', D)` float32; a clip without raw steps has none here either.
        """
        rows = sequence.present.nonzero().squeeze(1)
        count = len(sequence.mask)
        if not len(rows):
            values = sequence.values.new_zeros(count, 1, self.dim, dtype=torch.float32)
            return ModalitySequence(values, sequence.mask.new_zeros(count, 1))
        kept = ModalitySequence(sequence.values[rows], sequence.mask[rows]).compacted().zeroed()
        longest = int(kept.lengths.max())
        kept = ModalitySequence(kept.values[:, :longest], kept.mask[:, :longest])
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.spec.tune != "frozen"):
            found = self.encode(kept)
        if len(rows) == count:
            return found
        values = found.values.new_zeros(count, *found.values.shape[1:]).index_copy(0, rows, found.values)
        mask = found.mask.new_zeros(count, found.mask.shape[1]).index_copy(0, rows, found.mask)
        return ModalitySequence(values, mask)

    def train(self, mode: bool = True) -> Encoder:
        """A frozen encoder always stays in evaluation mode."""
        super().train(mode and self.spec.tune != "frozen")
        return self

    def checkpoint_activations(self) -> None:
        """Compute activations again in the backward pass instead of keeping them.

        Raises:
            UsageError: the network cannot.
        """
        options = {"use_reentrant": False}
        try:
            if hasattr(self.network, "activation_checkpointing_enable"):  # its name in later releases of transformers 5
                self.network.activation_checkpointing_enable(options)
            else:
                self.network.gradient_checkpointing_enable(options)
        except ValueError as error:
            raise UsageError(f"encoders.{self.spec.modality}.gradient_checkpointing: {error}") from None

    def in_parts(self, count: int, encode: Callable[[slice], Tensor]) -> Tensor:
        """Join what `encode` gives for `count` items: all at once in training, else so many that memory is bounded."""
        if torch.is_grad_enabled() or count <= AT_ONCE:
            return encode(slice(0, count))
        return torch.cat([encode(slice(start, start + AT_ONCE)) for start in range(0, count, AT_ONCE)])

    def states(self, output: Any) -> Tensor:
        """The chosen hidden states of a network's output; the last ones as the network itself gives them on."""
        chosen = output.last_hidden_state if self.spec.layer == -1 else output.hidden_states[self.spec.layer]
        return chosen.float()  # type: ignore[no-any-return]

    @property
    def every_layer(self) -> bool:
        """Whether the network must hand out all hidden states."""
        return self.spec.layer != -1

    def _choose_trained(self) -> None:
        """Adapters, and no gradient for what is not trained or what no output depends on."""
        if self.spec.tune == "lora":
            add_adapters(self.network, self.spec.lora)
        elif self.spec.tune == "frozen":
            self.network.requires_grad_(False)
        self.network.eval()
        raw = self.probe()
        with torch.enable_grad():
            found = self(ModalitySequence(raw[None], torch.ones(1, len(raw), dtype=torch.bool)))
            if found.values.shape[2] != self.dim:
                raise UsageError(
                    f"encoders.{self.spec.modality}: the network gives {found.values.shape[2]} numbers where its "
                    f"configuration announces {self.dim}: choose another model or layer"
                )
            if self.spec.tune == "frozen":
                return
            trained = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
            reached = torch.autograd.grad(found.values.square().sum(), list(trained.values()), allow_unused=True)
        for parameter, gradient in zip(trained.values(), reached, strict=True):
            parameter.requires_grad_(gradient is not None)

    def _unchanged(self) -> Iterator[str]:
        """Names of what training does not change."""
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                yield name
        if self.spec.tune == "frozen":
            yield from (name for name, _ in self.named_buffers())


def _leave_out(encoder: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    assert isinstance(encoder, Encoder)
    for name in encoder._left_out:
        state.pop(f"{prefix}{name}", None)


def _do_not_miss(encoder: nn.Module, keys: Any) -> None:
    """Loading says what it misses by names as seen from the module that was asked to load."""
    assert isinstance(encoder, Encoder)
    left_out = encoder._left_out
    keys.missing_keys[:] = [
        key for key in keys.missing_keys if not any(key == name or key.endswith(f".{name}") for name in left_out)
    ]
