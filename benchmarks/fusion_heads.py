"""What every fusion head costs: parameters, time and memory at CMU-MOSI's shapes, and how they grow.

    python benchmarks/fusion_heads.py [--heads late,mult] [--device cuda] [--output FILE.md]

Time is the median over repetitions, and every head is also given as a ratio to late fusion, timed in turn with it in
the same run. Memory is what a training step saves for its backward pass (counted from autograd, so it repeats exactly)
on top of the parameters. Growth is the exponent of time and memory when the length doubles: 1 is linear, 2 quadratic.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from fusion import FusionHead, ModalitySequence, head_class, head_classes

DIMS = {"text": 768, "audio": 5, "vision": 20}
STEPS = {"text": 50, "audio": 375, "vision": 500}
BATCH = 32
REPEATS = 7


@dataclass(frozen=True)
class Cost:
    """Of one head at one size: seconds (medians) and saved bytes."""

    parameters: int
    forward_seconds: float
    step_seconds: float
    saved_bytes: int


def make_batch(
    dims: dict[str, int], steps: dict[str, int], device: torch.device, *, aligned: bool
) -> dict[str, ModalitySequence]:
    """Full-length clips: the worst case."""
    longest = max(steps.values()) if not aligned else steps.get("text", min(steps.values()))
    generator = torch.Generator().manual_seed(0)
    batch = {}
    for key, dim in dims.items():
        length = longest if aligned else steps[key]
        values = torch.randn(BATCH, length, dim, generator=generator)
        batch[key] = ModalitySequence(values, torch.ones(BATCH, length, dtype=torch.bool)).to(device)
    return batch


def build(name: str, dims: dict[str, int], device: torch.device) -> FusionHead:
    """A head at its default size."""
    torch.manual_seed(0)
    return head_class(name)(input_dims=dims, output_dim=1).to(device)


def training_step(head: FusionHead, batch: dict[str, ModalitySequence], device: torch.device) -> Callable[[], None]:
    """Forward, all losses, backward."""
    head.train()
    target = torch.zeros(BATCH, 1, device=device)
    index = torch.arange(BATCH, device=device)

    def step() -> None:
        head.zero_grad(set_to_none=True)
        loss(head, batch, target, index).backward()

    return step


def loss(
    head: FusionHead, batch: dict[str, ModalitySequence], target: torch.Tensor, index: torch.Tensor
) -> torch.Tensor:
    """The task's error and everything the head adds to it."""
    output = head(batch)
    terms = [(output.prediction - target).abs().mean()]
    terms += [value.abs().mean() for value in output.unimodal.values()]
    terms += [*output.losses.values(), *head.target_losses(output, target, index).values()]
    return torch.stack(terms).sum()


def median_seconds(function: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> float:
    """Median wall time after one warm-up."""
    times = []
    for number in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def saved_bytes(head: FusionHead, batch: dict[str, ModalitySequence], device: torch.device) -> int:
    """Distinct storage that one training step keeps for its backward pass, without parameters and inputs."""
    head.train()
    known = {p.untyped_storage().data_ptr() for p in head.parameters()}
    known |= {s.values.untyped_storage().data_ptr() for s in batch.values()}
    seen: dict[int, int] = {}
    held: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            seen[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)  # keeps the address from being given out again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss(head, batch, torch.zeros(BATCH, 1, device=device), torch.arange(BATCH, device=device))
    return sum(seen.values())


def measure(name: str, dims: dict[str, int], steps: dict[str, int], device: torch.device, repeats: int) -> Cost:
    """One head at one size."""
    head = build(name, dims, device)
    batch = make_batch(dims, steps, device, aligned=head.needs_alignment)
    head.eval()
    with torch.no_grad():
        forward = median_seconds(lambda: head(batch), device, repeats)
    step = median_seconds(training_step(head, batch, device), device, repeats)
    parameters = sum(p.numel() for p in head.parameters() if p.requires_grad)
    return Cost(parameters, forward, step, saved_bytes(head, batch, device))


def exponent(small: float, large: float) -> float:
    """`log2` of the ratio when a size doubles."""
    return math.log2(max(large, 1e-12) / max(small, 1e-12))


def row(name: str, device: torch.device, repeats: int) -> str:
    """The table row of one head; late fusion is timed right before and after it for the ratio."""
    before = measure("late", DIMS, STEPS, device, repeats)
    own = measure(name, DIMS, STEPS, device, repeats)
    after = measure("late", DIMS, STEPS, device, repeats)
    ratio = own.step_seconds / ((before.step_seconds + after.step_seconds) / 2)
    half = {key: max(1, steps // 2) for key, steps in STEPS.items()}
    shorter = measure(name, DIMS, half, device, repeats)
    two = {"audio": 32, "vision": 32}
    four = {"audio": 32, "ecg": 32, "eeg": 32, "vision": 32}
    sides = [measure(name, dims, dict.fromkeys(dims, 100), device, 3) for dims in (two, four)]
    cells = [
        name,
        f"{own.parameters:,}",
        f"{own.forward_seconds * 1e3:.1f}",
        f"{own.step_seconds * 1e3:.1f}",
        f"{ratio:.2f}",
        f"{own.saved_bytes / 2**20:.1f}",
        f"{exponent(shorter.step_seconds, own.step_seconds):.2f}",
        f"{exponent(shorter.saved_bytes, own.saved_bytes):.2f}",
        f"{exponent(sides[0].step_seconds, sides[1].step_seconds):.2f}",
        f"{exponent(sides[0].saved_bytes, sides[1].saved_bytes):.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


HEADER = (
    "| head | parameters | forward ms | step ms | step ÷ late | saved MiB "
    "| time ~ T^ | memory ~ T^ | time ~ M^ | memory ~ M^ |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", help="with commas between; all by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--output", type=Path, help="also write the table here")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_flush_denormal(True)
    names = options.heads.split(",") if options.heads else list(head_classes())
    what = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    lines = [
        f"`python benchmarks/fusion_heads.py {' '.join(sys.argv[1:])}`".replace(" `", "`"),
        "",
        f"Python {platform.python_version()}, torch {torch.__version__}, {what}; batch {BATCH}, "
        f"text {STEPS['text']}×{DIMS['text']}, audio {STEPS['audio']}×{DIMS['audio']}, vision "
        f"{STEPS['vision']}×{DIMS['vision']}; heads that need alignment: {STEPS['text']} steps in all. "
        "T: all lengths doubled to these; M: 2 to 4 modalities of 100×32.",
        "",
        HEADER,
    ]
    print("\n".join(lines), flush=True)
    for name in names:
        lines.append(row(name, device, options.repeats))
        print(lines[-1], flush=True)
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
