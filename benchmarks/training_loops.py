"""Both loops of `benchmarks/training.py`, each run in a process of its own: what the peer does, and what mmsa does."""

from __future__ import annotations

import gc
import math
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from training_cases import CASES, Case
from training_clips import SENTIMENT, PaddedClips, Shape, pad_clips, split_of

from fusion import FusionHead, ModalitySequence, head_class
from mmsa.batching import shuffled_batches
from mmsa.config import TrainConfig
from mmsa.data import SplitData
from mmsa.kernels import bound_kernel_cache
from mmsa.losses import Objective
from mmsa.model import ModelConfig, MultimodalModel
from mmsa.trainer import Trainer
from mmsa.training import fit

Result = dict[str, Any]
LEARNING_RATE = 1e-3


class Clock:
    """Wall and processor seconds of each epoch."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.wall: list[float] = []
        self.processor: list[float] = []

    @contextmanager
    def epoch(self) -> Iterator[None]:
        """Time what is inside."""
        wall, processor = time.perf_counter(), time.process_time()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)


class Peak:
    """Highest resident memory since it was made, beyond what was resident then, in megabytes.

    Linux lets a process reset its own high-water mark; elsewhere the mark since the start has to do, which counts too
    little where something before was larger.
    """

    def __init__(self) -> None:
        gc.collect()
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            self.before = self._status("VmRSS")
        except OSError:
            self.before = self._highest()

    @staticmethod
    def _status(name: str) -> float:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))

    def _highest(self) -> float:
        if Path("/proc/self/status").is_file():
            return self._status("VmHWM")
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size / (2**20 if os.uname().sysname == "Darwin" else 2**10)

    def megabytes(self) -> float:
        """So far."""
        return self._highest() - self.before


def warm_up() -> None:
    """Have torch and the metrics import what they put off until first use, so that memory is the loop's own."""
    from mmsa.metrics import compute_metrics

    layer = torch.nn.LSTM(2, 2)
    layer(torch.zeros(1, 1, 2))[0].sum().backward()
    torch.optim.AdamW(layer.parameters()).step()
    torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
    values = np.linspace(-3, 3, 9, dtype=np.float32)
    compute_metrics(SENTIMENT, values[:, None], values)


class PeerClips(Dataset[dict[str, Any]]):
    """Per-item dictionaries of tensors, copied out of padded arrays."""

    def __init__(self, clips: PaddedClips) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item: dict[str, Any] = {key: torch.tensor(array[index]) for key, array in self.clips.values.items()}
        lengths = {key: int(steps[index]) for key, steps in self.clips.lengths.items()}
        return {**item, "index": index, "id": f"clip_{index}", "lengths": lengths, "labels": self._label(index)}

    def _label(self, index: int) -> dict[str, Tensor]:
        return {"M": torch.tensor(self.clips.labels[index])}


def peer_head(case: Case, shape: Shape, device: torch.device) -> FusionHead:
    """The head alone: the peer has no normaliser."""
    torch.manual_seed(0)
    return head_class(case.head)(input_dims=dict(shape.dims), output_dim=1, **case.options).to(device)


def peer_inputs(batch: dict[str, Any], device: torch.device, *, honour_lengths: bool = False) -> dict[str, Any]:
    """The head's inputs; padded steps count as real unless their lengths are honoured."""
    inputs = {}
    for key in batch["lengths"]:
        values = batch[key].to(device)
        mask = torch.ones(values.shape[:2], dtype=torch.bool, device=device)
        if honour_lengths:
            mask = torch.arange(values.shape[1], device=device) < batch["lengths"][key].to(device).unsqueeze(1)
        inputs[key] = ModalitySequence(values, mask)
    return inputs


def peer(case: Case, folder: Path, shape: Shape, *, epochs: int, steps: int | None, device: torch.device) -> Result:
    """The peer's training loop: epochs over a loader, keeping every prediction with its graph until the epoch's end."""
    clips = pad_clips(folder, shape)
    head = peer_head(case, shape, device)
    optimiser = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    loader = DataLoader(PeerClips(clips), batch_size=case.batch, shuffle=True, num_workers=0)
    warm_up()
    clock, peak, losses, loading = Clock(device), Peak(), [], 0.0
    seen = 0
    for _ in range(epochs):
        head.train()
        predictions, labels, total, seen = [], [], 0.0, 0
        with clock.epoch():
            waiting = time.perf_counter()
            for number, batch in enumerate(loader):
                loading += time.perf_counter() - waiting
                if number == steps:
                    break
                label = batch["labels"]["M"].to(device).view(-1, 1)
                optimiser.zero_grad()
                prediction = head(peer_inputs(batch, device)).prediction
                loss = torch.nn.functional.l1_loss(prediction, label)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
                optimiser.step()
                total += loss.item()
                predictions.append(prediction.cpu())
                labels.append(label.cpu())
                seen += len(label)
                waiting = time.perf_counter()
            everything = torch.cat(predictions), torch.cat(labels)
            losses.append(float((everything[0] - everything[1]).abs().mean().detach()))
    return {
        "clips": seen,
        "wall": clock.wall,
        "processor": clock.processor,
        "loading": loading / sum(clock.wall),
        "megabytes": peak.megabytes(),
        "data_megabytes": clips.megabytes,
        "losses": losses,
    }


def our_config(case: Case, *, epochs: int, **more: Any) -> TrainConfig:
    """Nothing that the peer does not do: no modality dropout, no validation in between."""
    settings: dict[str, Any] = {"batch_size": case.batch, "learning_rate": LEARNING_RATE, "clip_norm": 1.0, **more}
    return TrainConfig(epochs=epochs, patience_epochs=epochs, modality_dropout=0.0, seed=0, **settings)


def our_model(case: Case, shape: Shape) -> MultimodalModel:
    """The head with its normalisers."""
    torch.manual_seed(0)
    return MultimodalModel(ModelConfig(case.head, dict(shape.dims), 1, dict(case.options), grid_steps=None))


def our_trainer(
    case: Case, train: SplitData, shape: Shape, device: torch.device, *, epochs: int, **more: Any
) -> Trainer:
    """What `mmsa.training.fit` makes updates with."""
    model = our_model(case, shape)
    for key in model.config.input_dims:
        model.normalisers[key].fit(train, key)
    model.to(device).train()
    config = our_config(case, epochs=epochs, **more)
    updates = math.ceil(len(train) / case.batch)
    objective = Objective((SENTIMENT,), config.loss, train.labels).to(device)
    return Trainer(model, objective, train, config, device=device, updates_per_epoch=updates)


def ours(case: Case, folder: Path, shape: Shape, *, epochs: int, steps: int | None, device: torch.device) -> Result:
    """The updates that `mmsa.training.fit` makes, epoch by epoch, and how long the data path alone takes."""
    train, _ = split_of(folder, shape, device=device)
    trainer = our_trainer(case, train, shape, device, epochs=epochs + 1)
    clock = Clock(device)
    losses, seen, plan = [], 0, []
    torch.set_flush_denormal(True)  # as `fit` does
    for number in range(epochs + 1):
        generator = np.random.default_rng([0, number])
        plan = shuffled_batches(train.lengths, case.batch, generator, bucketing=True)[:steps]
        with clock.epoch():
            updates = [trainer.step([index]) for index in plan]
        seen = sum(update.clips for update in updates)
        losses.append(sum(update.terms["task"] * update.clips for update in updates) / seen * 3)
    return {
        "clips": seen,
        "wall": clock.wall[1:],  # the first epoch warms up
        "processor": clock.processor[1:],
        **data_path(trainer, plan, clock.wall[-1], device),
        "losses": losses,
    }


def data_path(trainer: Trainer, plan: list[Any], seconds: float, device: torch.device) -> Result:
    """The shares of an epoch that cutting batches and normalising them take."""
    gather = Clock(device)
    for _ in range(3):
        with gather.epoch():
            batches = [trainer.data.batch(index) for index in plan]
    prepare = Clock(device)
    for _ in range(3):
        with prepare.epoch(), torch.no_grad():
            for batch in batches:
                trainer.model.prepare(batch.inputs)
    return {"gather": sorted(gather.wall)[1] / seconds, "prepare": sorted(prepare.wall)[1] / seconds}


def our_memory(case: Case, folder: Path, shape: Shape, *, epochs: int) -> Result:
    """Peak of `mmsa.training.fit`, validation and the copy of the best weights included."""
    train, valid = split_of(folder, shape)
    touched = [float(table.values.sum(dtype=np.float64)) for table in train.tables.values()]  # the pages are mapped
    model = our_model(case, shape)
    warm_up()
    peak = Peak()
    device, marks = torch.device("cpu"), [time.process_time()]
    history = fit(
        *(model, train, valid, (SENTIMENT,), our_config(case, epochs=epochs)),
        device=device,
        on_epoch=lambda _: marks.append(time.process_time()),
    )
    data = sum(table.values.nbytes for table in train.tables.values()) / 2**20
    return {
        "megabytes": peak.megabytes(),
        "data_megabytes": data,
        "touched": len(touched),
        "processor": [after - before for before, after in pairwise(marks)],  # with validation
        "padding": history.epochs[-1].progress["padding"],
    }


def start_up(case: Case, folder: Path, shape: Shape) -> Result:
    """From nothing but imports, those deferred to the first optimiser among them, to the first update's end."""
    start = time.perf_counter()
    warm_up()
    imports = time.perf_counter() - start
    start = time.perf_counter()
    train, _ = split_of(folder, shape)
    trainer = our_trainer(case, train, shape, torch.device("cpu"), epochs=1)
    plan = shuffled_batches(train.lengths, case.batch, np.random.default_rng(0), bucketing=True)
    opened = time.perf_counter() - start
    trainer.step([plan[0]])
    return {"imports": imports, "opened": opened, "seconds": time.perf_counter() - start}


def same_predictions(case: Case, folder: Path, shape: Shape) -> Result:
    """The same weights over both data paths, the padded one's lengths honoured: the largest difference.

    The weights are those after a few updates, lest all predictions be alike.
    """
    train, _ = split_of(folder, shape)
    trainer = our_trainer(case, train, shape, torch.device("cpu"), epochs=1)
    model = trainer.model
    for index in shuffled_batches(train.lengths, 16, np.random.default_rng(0), bucketing=True)[:8]:
        trainer.step([index])
    model.eval()
    mine, theirs = torch.zeros(len(train), 1), torch.zeros(len(train), 1)
    with torch.no_grad():
        for batch in train.batches_by_length(case.batch):
            mine[batch.index] = model(batch.inputs).prediction
        for batch in DataLoader(PeerClips(pad_clips(folder, shape)), batch_size=case.batch):
            inputs = peer_inputs(batch, torch.device("cpu"), honour_lengths=True)
            theirs[batch["index"]] = model(inputs).prediction
    return {"difference": float((mine - theirs).abs().max()), "spread": float(mine.std())}


KINDS: dict[str, Callable[..., Result]] = {
    "peer": peer,
    "ours": ours,
    "memory": our_memory,
    "start": start_up,
    "same": same_predictions,
}


def run_job(job: dict[str, Any]) -> Result:
    """What a child process does."""
    torch.set_num_threads(job["threads"])
    case, shape, folder = CASES[job["case"]], Shape(**job["shape"]), Path(job["folder"])
    more = dict(job["more"])
    if "device" in more:
        more["device"] = torch.device(more["device"])
    if job["kind"] != "peer":
        bound_kernel_cache()  # as the command line does, before anything of torch runs
    return KINDS[job["kind"]](case, folder, shape, **more)


def describe_job(kind: str, case: Case, folder: Path, shape: Shape, threads: int, more: dict[str, Any]) -> Result:
    """A job as plain JSON values."""
    values = {"kind": kind, "case": case.name, "folder": str(folder), "threads": threads, "more": more}
    return {**values, "shape": {**asdict(shape), "dims": [list(pair) for pair in shape.dims]}}
