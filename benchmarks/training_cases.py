"""Which heads `benchmarks/training.py` measures, at which sizes, and what is expected of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """One head in both loops.

    Attributes:
        name: of the row.
        head: its short name.
        options: MMSA's sizes for MOSI, as far as the head's constructor takes them; see `CASES`.
        batch: MMSA's batch size.
        aligned: MMSA trains it on the aligned file.
        faster: samples per second, at least so many times the peer's; None is measured without a target.
        memory: peak memory with the data, at most this share of the peer's.
        peer_steps: updates of the peer's epoch that are run; None is all. All of them are the same work, and MulT's
            graphs, kept until the epoch's end, would fill more memory with each than most machines have.
    """

    name: str
    head: str
    options: dict[str, Any]
    batch: int
    aligned: bool = False
    faster: float | None = 3.0
    memory: float | None = 0.5
    peer_steps: int | None = None


LAST_LSTM = {"hidden_dim": 128, "encoder": "lstm", "pooling": "last"}

CASES = {
    case.name: case
    for case in (
        Case("EF-LSTM", "early", {**LAST_LSTM, "grid_steps": None, "dropout": 0.5}, 32, aligned=True),
        Case("LF-DNN", "lf_dnn", {**LAST_LSTM, "dropout": 0.2}, 128),
        Case("LMF", "lmf", {**LAST_LSTM, "rank": 3, "dropout": 0.3}, 64),
        Case("TFN", "tfn", {**LAST_LSTM, "tensor_dim": 32, "dropout": 0.3}, 32),
        Case("MFN", "mfn", {"hidden_dim": 256, "memory_dim": 400, "dropout": 0.2}, 128, aligned=True),
        Case(
            "MulT",
            "mult",
            {"hidden_dim": 50, "heads": 10, "layers": 4, "self_layers": 4, "kernel": 5},
            16,
            faster=5.0,
            memory=0.25,
            peer_steps=12,
        ),
        Case("EF-LSTM, grid", "early", {**LAST_LSTM, "grid_steps": 50, "dropout": 0.5}, 32, faster=None, memory=None),
        Case(
            "Graph-MFN", "graph_mfn", {"hidden_dim": 256, "memory_dim": 300}, 32, aligned=True, faster=None, memory=None
        ),
    )
}
"""MMSA's sizes differ by modality (128 for text, 16 or 32 for audio) where our heads have one `hidden_dim`; its EF-LSTM
has four LSTM layers where our head has one. Neither matters for the comparison: both loops train the same head."""
