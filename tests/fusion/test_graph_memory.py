"""Graph-MFN against a graph written out by hand for three modalities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fusion.graph_memory import DynamicFusionGraph, GraphMemoryFusion
from fusion.memory import SystemOfLSTMs
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 4, "vision": 2}


def graph(modalities: int = 3) -> DynamicFusionGraph:
    torch.manual_seed(0)
    return DynamicFusionGraph(modalities, 4, 3, 6).eval()


def by_hand(net: DynamicFusionGraph, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The graph of three modalities: 6 edges into pairs, 6 into the triple, 7 into the output."""
    e = net.efficacies(torch.cat([a, b, c])).sigmoid()
    assert len(e) == 19
    ab = net.vertices[0](torch.cat([e[0] * a, e[1] * b]))
    ac = net.vertices[1](torch.cat([e[2] * a, e[3] * c]))
    bc = net.vertices[2](torch.cat([e[4] * b, e[5] * c]))
    into_triple = [e[6 + k] * vertex for k, vertex in enumerate((a, b, c, ab, ac, bc))]
    abc = net.vertices[3](torch.cat(into_triple))
    into_output = [e[12 + k] * vertex for k, vertex in enumerate((a, b, c, ab, ac, bc, abc))]
    return net.output(torch.cat(into_output))


def test_three_modalities_by_hand() -> None:
    net, inputs = graph(), torch.randn(2, 3, 3, 4, generator=torch.Generator().manual_seed(1))
    output, _ = net(inputs, torch.ones(2, 3, dtype=torch.bool))
    for clip in range(2):
        for step in range(3):
            torch.testing.assert_close(output[clip, step], by_hand(net, *inputs[clip, step]))


def test_a_missing_modality_cuts_off_every_vertex_that_holds_it() -> None:
    """Without c there remain a, b and ab: three of seven vertices, and two of three inputs of the efficacies."""
    net, inputs = graph(), torch.randn(1, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    a, b = inputs[0, 0, 0], inputs[0, 0, 1]
    zeros = torch.zeros
    e = net.efficacies(torch.cat([a, b, zeros(4)]) * 3 / 2).sigmoid()
    ab = net.vertices[0](torch.cat([e[0] * a, e[1] * b]))
    kept = torch.cat([e[12] * a, e[13] * b, zeros(4), e[15] * ab, zeros(9)])
    expected = net.output(kept * 7 / 3)
    inputs[:, :, 2] = float("nan")
    output, _ = net(inputs.nan_to_num(5.0), torch.tensor([[True, True, False]]))
    torch.testing.assert_close(output[0, 0], expected)


@pytest.mark.parametrize(("modalities", "edges"), [(1, 1), (2, 5), (3, 19), (4, 65)])
def test_number_of_edges(modalities: int, edges: int) -> None:
    # Pairs of nested non-empty subsets, 3^M - 2^(M+1) + 1, and one edge per vertex to the output, 2^M - 1.
    assert edges == 3**modalities - 2 ** (modalities + 1) + 1 + 2**modalities - 1
    assert graph(modalities).edges == edges


def test_whole_head_step_by_step() -> None:
    torch.manual_seed(0)
    head = GraphMemoryFusion(DIMS, 2, hidden_dim=5, vertex_dim=3, memory_dim=4, dropout=0.0).eval()
    clip = {key: torch.randn(6, dim, generator=torch.Generator().manual_seed(dim)) for key, dim in DIMS.items()}
    with torch.no_grad():
        hidden, memories = _traces(head.lstms, clip)
        u = torch.zeros(4)
        for t in range(1, 7):
            window = [torch.cat([trace[t - 1], trace[t]]) for trace in memories]
            x = by_hand(head.fusion_graph, *window)
            net = head.memory
            u = net.retain(x).sigmoid() * u + net.update(x).sigmoid() * net.proposal(x).tanh()
        expected = head.output(torch.cat([*hidden, u]))
        actual = head({key: ModalitySequence.pad([steps], 8) for key, steps in clip.items()}).prediction[0]
    torch.testing.assert_close(actual, expected)


def _traces(lstms: SystemOfLSTMs, clip: dict[str, Tensor]) -> tuple[list[Tensor], list[list[Tensor]]]:
    hidden, memories = [], []
    for m, steps in enumerate(clip.values()):
        h = c = torch.zeros(5)
        trace = [c]
        for x in steps:
            i, f, g, o = (lstms.inputs[m](x) + h @ lstms.recurrent[m]).split(5)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            trace.append(c)
        hidden.append(h)
        memories.append(trace)
    return hidden, memories


def test_learns_an_interaction() -> None:
    """The product of two signs, which neither modality knows alone."""
    torch.manual_seed(0)
    sign = torch.randint(0, 2, (2, 16, 1, 1)) * 2.0 - 1
    batch = {
        key: ModalitySequence(sign[k].expand(16, 2, 1), torch.ones(16, 2).bool()) for k, key in enumerate(("a", "b"))
    }
    label = (sign[0] * sign[1]).view(16, 1)
    head = GraphMemoryFusion({"a": 1, "b": 1}, 1, hidden_dim=12, vertex_dim=8, dropout=0.0)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(40):
        optimiser.zero_grad()
        loss = (head(batch).prediction - label).square().mean()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05


def test_too_many_modalities() -> None:
    with pytest.raises(ValueError, match="at most 6 modalities, not 7: use MemoryFusion"):
        GraphMemoryFusion({str(k): 2 for k in range(7)}, 1)
