"""MFN against the paper's equations, written out clip by clip and step by step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fusion import testing
from fusion.memory import GatedMemory, MemoryFusion, SystemOfLSTMs
from fusion.sequence import ModalitySequence

DIMS = {"audio": 3, "text": 4, "vision": 2}


def build(dims: dict[str, int] | None = None) -> MemoryFusion:
    torch.manual_seed(0)
    return MemoryFusion(dims or DIMS, 2, hidden_dim=5, memory_dim=4, dropout=0.0).eval()


def naive_lstms(head: MemoryFusion, clip: dict[str, Tensor]) -> tuple[list[list[Tensor]], list[Tensor]]:
    """Memories `[modality][step]`, step 0 before anything was read, and last outputs."""
    memories, outputs = [], []
    for key, steps in clip.items():
        m = head.modalities.index(key)
        c = h = torch.zeros(5)
        trace = [c]
        for x in steps:
            gates = head.lstms.inputs[m](x) + h @ head.lstms.recurrent[m]
            i, f, g, o = gates[:5].sigmoid(), gates[5:10].sigmoid(), gates[10:15].tanh(), gates[15:].sigmoid()
            c = f * c + i * g
            h = o * c.tanh()
            trace.append(c)
        memories.append(trace)
        outputs.append(h)
    return memories, outputs


def naive_memory(memory: GatedMemory, seen: list[Tensor], size: int) -> Tensor:
    u = torch.zeros(size)
    for x in seen:
        u = memory.retain(x).sigmoid() * u + memory.update(x).sigmoid() * memory.proposal(x).tanh()
    return u


def naive_mfn(head: MemoryFusion, clip: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """`clip` holds `(T, D)` of every modality; returns the prediction and the mean attention shares."""
    memories, outputs = naive_lstms(head, clip)
    steps, attended, shares = len(memories[0]) - 1, [], torch.zeros(len(clip))
    for t in range(1, steps + 1):
        both = torch.cat([trace[t - 1] for trace in memories] + [trace[t] for trace in memories])
        a = head.attention(both).softmax(dim=0)
        attended.append(both * a)
        parts = a.split(5)
        for m in range(len(clip)):
            shares[m] += (parts[m].sum() + parts[len(clip) + m].sum()) / steps
    u = naive_memory(head.memory, attended, 4)
    return head.output(torch.cat([*outputs, u])), dict(zip(clip, shares.tolist(), strict=True))


def test_against_the_equations() -> None:
    head = build()
    clip = {key: torch.randn(6, dim, generator=torch.Generator().manual_seed(dim)) for key, dim in DIMS.items()}
    with torch.no_grad():
        expected, shares = naive_mfn(head, clip)
        padded = {key: ModalitySequence.pad([steps], 9) for key, steps in clip.items()}
        output = head(padded)
    torch.testing.assert_close(output.prediction[0], expected)
    for key, share in shares.items():
        assert output.weights[key].item() == pytest.approx(share, rel=1e-4)


def test_lstms_are_torchs() -> None:
    lstms = SystemOfLSTMs({"audio": 3}, 5)
    reference = torch.nn.LSTM(3, 5, batch_first=True)
    reference.load_state_dict(
        {
            "weight_ih_l0": lstms.inputs[0].weight,
            "bias_ih_l0": lstms.inputs[0].bias,
            "weight_hh_l0": lstms.recurrent[0].T,
            "bias_hh_l0": torch.zeros(20),
        }
    )
    values = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    hidden, memories = lstms({"audio": ModalitySequence(values, torch.ones(2, 7).bool())})
    _, (last_hidden, last_memory) = reference(values)
    torch.testing.assert_close(hidden[:, 0], last_hidden[0])
    torch.testing.assert_close(memories[:, -1, 0], last_memory[0])
    assert (memories[:, 0] == 0).all()


def test_a_gap_in_all_modalities_is_as_good_as_closed() -> None:
    head, batch = build(), testing.ragged_batch(DIMS, {key: [5] for key in DIMS})
    spread = {}
    for key, sequence in batch.items():
        values = torch.full((1, 8, DIMS[key]), 7.0)
        mask = torch.tensor([[True, False, True, True, False, False, True, True]])
        values[mask] = sequence.values[0]
        spread[key] = ModalitySequence(values, mask)
    with torch.no_grad():
        torch.testing.assert_close(head(spread).prediction, head(batch).prediction)


def test_a_gap_in_one_modality_keeps_its_memory() -> None:
    lstms = build().lstms
    batch = testing.ragged_batch(DIMS, {key: [4] for key in DIMS})
    mask = torch.tensor([[True, True, False, True]])
    gapped = {**batch, "text": ModalitySequence(batch["text"].values, mask)}
    _, memories = lstms(gapped)
    _, full = lstms(batch)
    text = list(DIMS).index("text")
    assert torch.equal(memories[0, 3, text], memories[0, 2, text])
    assert not torch.allclose(full[0, 3, text], full[0, 2, text])
    torch.testing.assert_close(memories[:, :, 0], full[:, :, 0])


def test_a_missing_modality_has_no_part_in_the_softmax() -> None:
    """Attention over the entries left is a softmax over them alone."""
    head = build()
    memories = torch.randn(1, 2, 3, 5, generator=torch.Generator().manual_seed(0))
    memories[:, :, 2] = 0
    present = torch.tensor([[True, True, False]])
    with torch.no_grad():
        _, attention = head.attend(memories, present)
        window = torch.cat([memories[0, 0].flatten(), memories[0, 1].flatten()])
        logits = head.attention(window)
    left = torch.cat([torch.arange(10), 15 + torch.arange(10)])
    torch.testing.assert_close(attention[0, 0, left], logits[left].softmax(dim=0))
    assert attention.sum().item() == pytest.approx(1.0)


def test_learns_what_only_coincidence_tells() -> None:
    """The label is whether the same step carries the same sign in both modalities: neither knows it alone."""
    torch.manual_seed(0)
    sign = torch.randint(0, 2, (2, 16, 1, 1)) * 2.0 - 1
    values = sign * torch.ones(2, 16, 2, 1)
    label = (sign[0] * sign[1]).view(16, 1)
    batch = {key: ModalitySequence(values[k], torch.ones(16, 2).bool()) for k, key in enumerate(("audio", "text"))}
    head = MemoryFusion({"audio": 1, "text": 1}, 1, hidden_dim=12, dropout=0.0)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(40):
        optimiser.zero_grad()
        loss = (head(batch).prediction - label).square().mean()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05  # a constant, or one modality, leaves 1.0


def test_memory_dim_must_be_positive() -> None:
    with pytest.raises(ValueError, match="memory_dim must be at least 1, not 0"):
        MemoryFusion(DIMS, 1, memory_dim=0)
