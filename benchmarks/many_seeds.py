"""Five seeds of one head: one after the other, in two processes, or stacked into one model.

    python benchmarks/many_seeds.py [--heads LMF,EF-LSTM] [--seeds 5] [--epochs 2] [--processes 2] [--output FILE.md]

The clips are those of `benchmarks/training.py`; so are the heads and their sizes. What is timed is training alone, from
open features to the last update, and for the processes also their start and imports, which a single process has paid
already. Every way computes with one thread per process.

Stacked: the weights of all seeds side by side (`torch.func.stack_module_state`), forward and gradient mapped over them
(`torch.func.vmap`), one optimiser over the stacked tensors. All seeds then see the same batches, which is a weaker
experiment than seeds of their own; heads whose operators have no rule for vmap cannot be stacked, and are named so.

The share is the time over that of the runs one after the other; below 1 is a gain. Processor time says what the cores
did, whatever else the machine was doing; on a busy machine wall time says how busy it was.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from training_cases import CASES, Case
from training_clips import SENTIMENT, Shape, split_of, write_clips
from training_loops import our_config, our_model, our_trainer

from mmsa.batching import cut_parts, shuffled_batches
from mmsa.many import run_many

CPU = torch.device("cpu")
STACKED_STEPS = 4096


def train_one(name: str, folder: str, clips: int, epochs: int, seed: int) -> float:
    """One seed, as `mmsa.training.fit` makes its updates; returns the processor seconds."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    before = time.process_time()
    case = CASES[name]
    shape = Shape(clips=clips, aligned=case.aligned)
    train, _ = split_of(Path(folder), shape)
    trainer = our_trainer(case, train, shape, CPU, epochs=epochs)
    for epoch in range(epochs):
        for index in shuffled_batches(train.lengths, case.batch, np.random.default_rng([seed, epoch]), bucketing=True):
            trainer.step([index])
    return time.process_time() - before


def one_after_the_other(case: Case, folder: Path, clips: int, epochs: int, seeds: int) -> float:
    """In this process; processor seconds."""
    return sum(train_one(case.name, str(folder), clips, epochs, seed) for seed in range(seeds))


def in_processes(case: Case, folder: Path, clips: int, epochs: int, seeds: int, processes: int) -> float:
    """Side by side; processor seconds of the trainings, without the workers' imports."""
    spent = 0.0
    job = partial(train_one, case.name, str(folder), clips, epochs)
    for _, result in run_many(job, range(seeds), processes=processes):
        if isinstance(result, Exception):
            raise result
        spent += result
    return spent


def stacked(case: Case, folder: Path, clips: int, epochs: int, seeds: int) -> float:
    """All seeds as one model; processor seconds."""
    before = time.process_time()
    shape = Shape(clips=clips, aligned=case.aligned)
    train, _ = split_of(folder, shape)
    models = []
    for seed in range(seeds):
        model = our_model(case, shape)
        for key in model.config.input_dims:
            model.normalisers[key].fit(train, key)
        torch.manual_seed(seed)
        for module in model.head.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        models.append(model.head.train())
    parameters, buffers = torch.func.stack_module_state(models)
    skeleton = copy.deepcopy(models[0]).to("meta")
    optimiser = torch.optim.AdamW(list(parameters.values()), lr=1e-3, weight_decay=1e-2, fused=True)
    config = our_config(case, epochs=epochs)

    def one(own: dict[str, Tensor], held: dict[str, Tensor], inputs: Any) -> Tensor:
        prediction: Tensor = torch.func.functional_call(skeleton, (own, held), (inputs,)).prediction
        return prediction

    mapped = torch.func.vmap(one, in_dims=(0, 0, None), randomness="different")
    for epoch in range(epochs):
        for batch in shuffled_batches(train.lengths, case.batch, np.random.default_rng(epoch), bucketing=True):
            optimiser.zero_grad(set_to_none=True)
            for part in cut_parts(train.lengths, batch, STACKED_STEPS):
                data = train.batch(part)
                predictions = mapped(parameters, buffers, model.prepare(data.inputs))  # (seeds, B, 1)
                error = (predictions[..., 0] - data.labels[SENTIMENT.name]).abs().sum() / 3 / len(batch)
                error.backward()
            clip_each(parameters, config.clip_norm)
            optimiser.step()
    return time.process_time() - before


def clip_each(parameters: dict[str, Tensor], most: float) -> None:
    """Clip the gradient norm of each seed by itself."""
    gradients = [p.grad for p in parameters.values() if p.grad is not None]
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    factors = (most / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))


def timed(function: Callable[[], float]) -> tuple[float, float]:
    """Wall seconds and what the function says of processor seconds."""
    start = time.perf_counter()
    spent = function()
    return time.perf_counter() - start, spent


def measure(case: Case, folder: Path, clips: int, epochs: int, seeds: int, processes: int) -> list[str]:
    """The rows of one head."""
    shape = Shape(clips=clips, aligned=case.aligned)
    if not (folder / shape.name).is_dir():
        write_clips(folder, shape)
    ways: dict[str, Callable[[], float]] = {
        "one after the other": partial(one_after_the_other, case, folder, clips, epochs, seeds),
        f"{processes} processes": partial(in_processes, case, folder, clips, epochs, seeds, processes),
        "stacked": partial(stacked, case, folder, clips, epochs, seeds),
    }
    rows = []
    reference: tuple[float, float] | None = None
    for name, way in ways.items():
        try:
            wall, spent = timed(way)
        except (RuntimeError, NotImplementedError, ValueError) as error:
            rows.append(f"| {case.name} | {name} | cannot: {str(error).splitlines()[0][:90]} | | | | |")
            continue
        reference = reference or (wall, spent)
        cells = (f"{wall:.1f}", f"{wall / reference[0]:.2f}", f"{spent:.1f}", f"{spent / reference[1]:.2f}")
        rows.append(f"| {case.name} | {name} | {' | '.join(cells)} | {os.getloadavg()[0]:.1f} |")
    return rows


def main(words: Sequence[str] | None = None) -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", default="EF-LSTM,LMF,LF-DNN")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--clips", type=int, default=1284)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, help="also write the table here")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    lines = [
        f"`python benchmarks/many_seeds.py {' '.join(sys.argv[1:])}`".replace(" `", "`"),
        "",
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} shared cores, one thread a "
        f"process; {options.seeds} seeds, {options.epochs} epochs of {options.clips} clips.",
        "",
        "| head | way | wall s | share | processor s | share | load |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory(prefix="mmsa-seeds-") as folder:
        for name in options.heads.split(","):
            sizes = (options.clips, options.epochs, options.seeds, options.processes)
            lines += (found := measure(CASES[name], Path(folder), *sizes))
            print("\n".join(found), flush=True)
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
