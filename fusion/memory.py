"""Memory fusion: LSTMs side by side, attention over how their memories change, and a memory above them (MFN)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion.head import FusionHead, stack_present
from fusion.joining import concatenate_present
from fusion.output import FusionOutput
from fusion.pooling import masked_softmax
from fusion.sequence import ModalitySequence


class SystemOfLSTMs(nn.Module):
    """One LSTM per modality, all stepped together, whose memories can be read at every step.

    A masked step leaves that modality's state as it was. Gates are ordered input, forget, candidate, output.

    Args:
        input_dims: features per modality.
        hidden_dim: size `H` of every LSTM's memory and output.
    """

    def __init__(self, input_dims: Mapping[str, int], hidden_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.inputs = nn.ModuleList(nn.Linear(dim, 4 * hidden_dim) for dim in input_dims.values())
        # One batched product per step for all modalities, instead of a cell each.
        self.recurrent = nn.Parameter(torch.empty(len(input_dims), hidden_dim, 4 * hidden_dim))
        nn.init.uniform_(self.recurrent, -(hidden_dim**-0.5), hidden_dim**-0.5)

    def forward(self, inputs: Mapping[str, ModalitySequence]) -> tuple[Tensor, Tensor]:
        """Run over `T` aligned steps.

        Returns:
            The last outputs `(B, M, H)`, and the memories `(B, T + 1, M, H)`, which begin with the zeros before
            the first step.
        """
        sequences = list(inputs.values())
        driven = torch.stack(
            [layer(s.values) for layer, s in zip(self.inputs, sequences, strict=True)]
        )  # (M, B, T, 4H)
        real = torch.stack([s.mask for s in sequences]).unsqueeze(-1)  # (M, B, T, 1)
        count, batch, steps, _ = driven.shape
        hidden = memory = driven.new_zeros(count, batch, self.hidden_dim)
        memories = [memory]
        for step in range(steps):
            gates = torch.baddbmm(driven[:, :, step], hidden, self.recurrent)
            take, keep, candidate, show = gates.chunk(4, dim=-1)
            new_memory = torch.sigmoid(keep) * memory + torch.sigmoid(take) * torch.tanh(candidate)
            new_hidden = torch.sigmoid(show) * torch.tanh(new_memory)
            memory = torch.where(real[:, :, step], new_memory, memory)
            hidden = torch.where(real[:, :, step], new_hidden, hidden)
            memories.append(memory)
        return hidden.transpose(0, 1), torch.stack(memories).permute(2, 0, 1, 3)


class GatedMemory(nn.Module):
    """The multi-view gated memory: `u_t = g1_t * u_(t-1) + g2_t * tanh(D_u(x_t))`, with sigmoid gates of `x_t`.

    Args:
        input_dim: features of `x_t`.
        memory_dim: size of `u`.
        inner_dim: hidden size of the three networks.
        dropout: in the three networks.
    """

    def __init__(self, input_dim: int, memory_dim: int, inner_dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.proposal = two_layers(input_dim, inner_dim, memory_dim, dropout)
        self.retain = two_layers(input_dim, inner_dim, memory_dim, dropout)
        self.update = two_layers(input_dim, inner_dim, memory_dim, dropout)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """`(B, T, input_dim)` and `(B, T)` → the last memory `(B, memory_dim)`; masked steps leave it as it was."""
        # The networks see no recurrent state, so they run over all steps at once.
        new = torch.sigmoid(self.update(values)) * torch.tanh(self.proposal(values))
        retain = torch.sigmoid(self.retain(values))
        memory = torch.zeros_like(new[:, 0])
        for step in range(new.shape[1]):
            moved = retain[:, step] * memory + new[:, step]
            memory = torch.where(mask[:, step, None], moved, memory)
        return memory


class MemoryFusion(FusionHead):
    """Memory Fusion Network.

    Zadeh, Liang, Mazumder, Poria, Cambria & Morency, "Memory Fusion Network for Multi-view Sequential Learning",
    AAAI 2018. Every modality has an LSTM. At each step the delta-memory attention takes all memories of the last
    two steps, `c_(t-1)` and `c_t`, side by side, and weighs their entries by a softmax of a network of them:
    `c^ = c * softmax(D_a(c))`. The multi-view gated memory `u` is updated from `c^`. The prediction comes from the
    last LSTM outputs and the last `u`.

    It needs aligned modalities, because the attention looks for what changes in several memories at one moment.

    `weights` is each modality's share of the attention, averaged over the steps.

    Deviations: any number of modalities. A missing one has no entries in the softmax and drops out of the last
    concatenation, whose LSTM parts are scaled up. A step at which only some modalities are real moves these
    modalities' memories and `u`; a step at which none is real moves nothing.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of every LSTM, and of the networks' hidden layers.
        memory_dim: size of `u`; `hidden_dim` when None.
        dropout: in the networks and before the output.

    Raises:
        ValueError: `memory_dim` below 1.
    """

    name = "mfn"
    family = "memory"
    paper = (
        'Zadeh, Liang, Mazumder, Poria, Cambria & Morency, "Memory Fusion Network for Multi-view Sequential '
        'Learning", AAAI 2018'
    )
    needs_alignment = True

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        memory_dim: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        memory_dim = checked_memory_dim(memory_dim, hidden_dim)
        window = 2 * len(self.input_dims) * hidden_dim
        self.lstms = SystemOfLSTMs(self.input_dims, hidden_dim)
        self.attention = two_layers(window, hidden_dim, window, dropout)
        self.memory = GatedMemory(window, memory_dim, hidden_dim, dropout=dropout)
        self.output = two_layers(len(self.input_dims) * hidden_dim + memory_dim, hidden_dim, output_dim, dropout)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Step the LSTMs, attend to their memories, keep what counts, predict."""
        present, real = stack_present(inputs), any_real(inputs)
        hidden, memories = self.lstms(inputs)
        attended, attention = self.attend(memories, present)
        fused = torch.cat([concatenate_present(hidden, present), self.memory(attended, real)], dim=-1)
        share = attention.view(*real.shape, 2, present.shape[1], -1).sum(dim=(2, 4))  # (B, T, M)
        share = (share * real.unsqueeze(-1)).sum(dim=1) / real.sum(dim=1, keepdim=True).clamp(min=1)
        return FusionOutput(
            prediction=self.output(fused),
            weights={key: share[:, m] for m, key in enumerate(inputs)},
            representations={**{key: hidden[:, m] for m, key in enumerate(inputs)}, "fusion": fused},
        )

    def attend(self, memories: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """The delta-memory attention at every step.

        Args:
            memories: `(B, T + 1, M, H)`.
            present: `(B, M)` bool.

        Returns:
            What was attended to, and the attention, each `(B, T, 2 M H)`: all memories before the step, then all
            after it.
        """
        window = memory_window(memories).flatten(-3)  # (B, T, 2 M H)
        entries = present.repeat(1, 2).repeat_interleave(memories.shape[-1], dim=1).unsqueeze(1)  # (B, 1, 2 M H)
        # The memories of a missing modality are all zero and stay out of the network by themselves.
        attention = masked_softmax(self.attention(window), entries.expand_as(window))
        return window * attention, attention


def memory_window(memories: Tensor) -> Tensor:
    """`(B, T + 1, M, H)` → `(B, T, 2, M, H)`: for each step the memories before and after it."""
    return torch.stack([memories[:, :-1], memories[:, 1:]], dim=2)


def any_real(inputs: Mapping[str, ModalitySequence]) -> Tensor:
    """`(B, T)` bool: steps of aligned sequences at which at least one modality is real."""
    return torch.stack([sequence.mask for sequence in inputs.values()]).any(dim=0)


def two_layers(input_dim: int, hidden_dim: int, output_dim: int, dropout: float) -> nn.Sequential:
    """The small network that these methods use everywhere."""
    return nn.Sequential(
        nn.Linear(input_dim, hidden_dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden_dim, output_dim)
    )


def checked_memory_dim(memory_dim: int | None, hidden_dim: int) -> int:
    """`memory_dim`, or `hidden_dim` when None.

    Raises:
        ValueError: it is below 1.
    """
    memory_dim = hidden_dim if memory_dim is None else memory_dim
    if memory_dim < 1:
        raise ValueError(f"memory_dim must be at least 1, not {memory_dim}; None makes it hidden_dim")
    return memory_dim
