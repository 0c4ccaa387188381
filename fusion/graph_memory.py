"""Graph memory fusion: a graph over all subsets of modalities, with learned edge strengths (Graph-MFN)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn

from fusion.head import FusionHead, stack_present
from fusion.joining import concatenate_present
from fusion.memory import GatedMemory, SystemOfLSTMs, any_real, checked_memory_dim, memory_window, two_layers
from fusion.output import FusionOutput
from fusion.sequence import ModalitySequence

MOST_MODALITIES = 6
"""The graph has 2^M vertices and about 3^M edges: 63 and 664 at six modalities, ten times that at eight."""


class DynamicFusionGraph(nn.Module):
    """Every non-empty subset of modalities is a vertex, fed by its proper subsets; all vertices feed the output.

    A vertex of one modality is that modality's input. A vertex of several is a network of its subsets' vertices,
    each multiplied by the efficacy of the edge; so is the output. The efficacies, in (0, 1), are a network of all
    single vertices: they change with the input. With three modalities there are 7 vertices, the output and 19 edges.

    Args:
        modalities: number of modalities `M`.
        input_dim: features `D` of each modality's input.
        vertex_dim: features of a vertex of several modalities, and of the output.
        inner_dim: hidden size of the networks.
        dropout: in the networks.
    """

    def __init__(
        self, modalities: int, input_dim: int, vertex_dim: int, inner_dim: int, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.subsets = [s for size in range(1, modalities + 1) for s in combinations(range(modalities), size)]
        self.sources = [
            [i for i, smaller in enumerate(self.subsets) if set(smaller) < set(subset)] for subset in self.subsets
        ]
        sizes = [input_dim if len(subset) == 1 else vertex_dim for subset in self.subsets]
        self.vertices = nn.ModuleList(
            two_layers(sum(sizes[i] for i in sources), inner_dim, vertex_dim, dropout)
            for sources in self.sources
            if sources
        )
        self.output = two_layers(sum(sizes), inner_dim, vertex_dim, dropout)
        self.edges = sum(len(sources) for sources in self.sources) + len(self.subsets)
        self.efficacies = two_layers(modalities * input_dim, inner_dim, self.edges, dropout)

    def forward(self, inputs: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate the graph.

        Args:
            inputs: `(B, T, M, D)`.
            present: `(B, M)` bool. A vertex that holds a missing modality is cut off; the other terms of the
                output and of the efficacies' network are scaled up.

        Returns:
            The output `(B, T, vertex_dim)` and the efficacies `(B, T, E)`: the edges into each vertex of several
            modalities, smaller vertices first, then those into the output.
        """
        batch, steps, count, _ = inputs.shape
        each = present.repeat_interleave(steps, dim=0)  # (B * T, M)
        efficacies = torch.sigmoid(self.efficacies(concatenate_present(inputs.flatten(0, 1), each)))
        efficacies = efficacies.view(batch, steps, self.edges)
        strengths = iter(torch.split(efficacies, 1, dim=-1))
        there = torch.stack([present[:, list(subset)].all(dim=1) for subset in self.subsets], dim=1)  # (B, 2^M - 1)
        values = [inputs[:, :, m].masked_fill(~there[:, m, None, None], 0.0) for m in range(count)]
        for vertex, sources in enumerate(self.sources[count:], start=count):
            # Where a vertex is there, so are all its subsets: nothing needs scaling inside the graph.
            fed = torch.cat([next(strengths) * values[i] for i in sources], dim=-1)
            values.append(self.vertices[vertex - count](fed).masked_fill(~there[:, vertex, None, None], 0.0))
        scale = there.shape[1] / there.sum(dim=1).clamp(min=1)[:, None, None]
        return self.output(torch.cat([next(strengths) * value for value in values], dim=-1) * scale), efficacies


class GraphMemoryFusion(FusionHead):
    """Graph Memory Fusion Network.

    Zadeh, Liang, Poria, Cambria & Morency, "Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and
    Interpretable Dynamic Fusion Graph", ACL 2018. As `MemoryFusion`, with the dynamic fusion graph in the place of
    the delta-memory attention: at each step its single vertices are the modalities' memories before and after the
    step, and its output updates the multi-view gated memory.

    It needs aligned modalities, because the graph relates what the memories hold at one moment.

    Deviations: any number of modalities up to six; missing ones and masked steps as in `MemoryFusion` and
    `DynamicFusionGraph`.

    Args:
        input_dims: features per modality.
        output_dim: number of outputs.
        hidden_dim: size of every LSTM, and of the networks' hidden layers.
        vertex_dim: size of the graph's vertices of several modalities.
        memory_dim: size of the gated memory; `hidden_dim` when None.
        dropout: in the networks and before the output.

    Raises:
        ValueError: more than six modalities, or `memory_dim` below 1.
    """

    name = "graph_mfn"
    family = "memory"
    paper = (
        'Zadeh, Liang, Poria, Cambria & Morency, "Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and '
        'Interpretable Dynamic Fusion Graph", ACL 2018'
    )
    needs_alignment = True

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        *,
        hidden_dim: int = 64,
        vertex_dim: int = 32,
        memory_dim: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(input_dims, output_dim)
        count = len(self.input_dims)
        if count > MOST_MODALITIES:
            raise ValueError(
                f"a graph over all subsets takes at most {MOST_MODALITIES} modalities, not {count}: "
                "use MemoryFusion, or fewer modalities"
            )
        memory_dim = checked_memory_dim(memory_dim, hidden_dim)
        self.lstms = SystemOfLSTMs(self.input_dims, hidden_dim)
        # Not `graph`: an exported module keeps its own under that name.
        self.fusion_graph = DynamicFusionGraph(count, 2 * hidden_dim, vertex_dim, hidden_dim, dropout=dropout)
        self.memory = GatedMemory(vertex_dim, memory_dim, hidden_dim, dropout=dropout)
        self.output = two_layers(count * hidden_dim + memory_dim, hidden_dim, output_dim, dropout)

    def fuse(self, inputs: dict[str, ModalitySequence]) -> FusionOutput:
        """Step the LSTMs, run the graph on their memories, keep what counts, predict."""
        present = stack_present(inputs)
        hidden, memories = self.lstms(inputs)
        vertices = memory_window(memories).transpose(2, 3).flatten(-2)  # (B, T, M, 2 H)
        joined, _ = self.fusion_graph(vertices, present)
        fused = torch.cat([concatenate_present(hidden, present), self.memory(joined, any_real(inputs))], dim=-1)
        return FusionOutput(
            prediction=self.output(fused),
            representations={**{key: hidden[:, m] for m, key in enumerate(inputs)}, "fusion": fused},
        )
