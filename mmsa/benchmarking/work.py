"""One training of a benchmark, in whatever process it runs: train, predict, keep."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsa.benchmarking.store import Result, SplitPredictions, digest_of, save_run, settings_of
from mmsa.config import TrainConfig
from mmsa.errors import UsageError
from mmsa.recipe import HeadEntry

if TYPE_CHECKING:
    import torch

    from mmsa.workshop import Workshop

CLASSICAL_OPTIONS = ("functionals", "kernels", "costs", "widths")


@dataclass(frozen=True)
class Item:
    """One training to do.

    Attributes:
        entry: the row.
        config: its settings on one corpus with one seed.
        seed: of the training; None for a head that has none.
        identity: of the clips and features.
        folder: where it is kept.
        parent: MLflow's id of the benchmark's run.
    """

    entry: HeadEntry
    config: TrainConfig
    seed: int | None
    identity: str
    folder: Path
    parent: str | None = None

    def __repr__(self) -> str:
        number = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.entry.name} on {self.config.corpus}{number}"

    @property
    def key(self) -> tuple[str, str, int | None]:
        """Row, corpus and seed."""
        return self.entry.name, self.config.corpus, self.seed


def train_item(item: Item) -> Result:
    """Train and keep; a worker process opens each corpus once."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same numbers with one process as with many
    try:
        shop = open_shop(item.config)
        about, valid, test = _classical(item, shop) if item.entry.classical else _fusion(item, shop)
    finally:
        torch.set_num_threads(threads)
    result = Result(**_shared(item, shop), **about)
    save_run(item.folder, result, valid, test)
    return result


_shops: dict[str, Workshop] = {}
_LIMIT = 3


def shop_key(config: TrainConfig) -> str:
    """What decides a workshop."""
    kept = {"corpus", "root", "modalities", "tasks", "extractors", "encoders", "feature_dtype", "grid", "words"}
    return digest_of(config.model_dump(mode="json", include=kept))


def open_shop(config: TrainConfig) -> Workshop:
    """A workshop, opened once per process (the last few are kept)."""
    from mmsa.workshop import open_workshop

    key = shop_key(config)
    if key not in _shops:
        while len(_shops) >= _LIMIT:
            _shops.pop(next(iter(_shops)))
        _shops[key] = open_workshop(config)
    return _shops[key]


def close_shops() -> None:
    """Forget what is open: the files behind it may have changed since."""
    _shops.clear()


def _shared(item: Item, shop: Workshop) -> dict[str, Any]:
    from mmsa.bundle import library_versions

    specs = {key: spec.to_dict() for key, spec in shop.specs.items()}
    settings = settings_of(item.entry, item.config)
    return {
        "row": item.entry.name,
        "corpus": item.config.corpus,
        "seed": item.seed,
        "identity": item.identity,
        "modalities": tuple(specs),
        "tasks": tuple(task.to_dict() for task in shop.tasks),
        "features": {key: {k: v for k, v in spec.items() if k != "hints"} for key, spec in specs.items()},
        "settings": settings,
        "versions": library_versions(),
    }


Kept = tuple[dict[str, Any], SplitPredictions, SplitPredictions]


def _fusion(item: Item, shop: Workshop) -> Kept:
    from mmsa.bundle import load_bundle
    from mmsa.runs import train_on
    from mmsa.workshop import choose_device

    device = choose_device(item.config.device)
    run = train_on(item.config, shop, device=device, parent=item.parent)
    model = load_bundle(run.bundle).model.to(device)  # what was kept is what is judged
    about = {
        "head": run.head,
        "run_id": run.id,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "epochs": run.epochs,
        "best_epoch": run.best_epoch,
        "train_seconds": round(run.train_seconds, 3),
        "choice": {},
        "machine": machine(device),
    }
    return about, _predictions(model, shop, "valid", device), _predictions(model, shop, "test", device)


def _predictions(model: Any, shop: Workshop, split: Any, device: torch.device) -> SplitPredictions:
    from mmsa.evaluation import modality_subsets, predict

    data = shop.split(split)
    full = tuple(model.config.input_dims)
    found = predict(model, data, shop.tasks, device=device)
    subsets = {}
    for subset in modality_subsets(full) if split == "test" else ():
        if subset != full:
            subsets["+".join(subset)] = predict(model, data, shop.tasks, device=device, modalities=subset).outputs
    return SplitPredictions(found.clips, found.labels, found.outputs, subsets)


def machine(device: torch.device | None = None) -> str:
    """Cores and processor, and the GPU where one was used; never the machine's name."""
    import platform

    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    cores = f"{os.cpu_count()} cores, {named or platform.processor() or platform.machine()}"
    if device is not None and device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({cores})"
    return cores


def check_classical(entry: HeadEntry) -> None:
    """Refuse options that the classical head does not have.

    Raises:
        UsageError: some are unknown.
    """
    unknown = sorted(set(entry.options) - set(CLASSICAL_OPTIONS))
    if unknown:
        raise UsageError(
            f"row {entry.name!r}: the head {entry.head!r} takes no {', '.join(unknown)}; its options are "
            f"{', '.join(CLASSICAL_OPTIONS)}"
        )


def _classical(item: Item, shop: Workshop) -> Kept:
    from mmsa.benchmarking.classical import fit_classical, read_functionals
    from mmsa.tracking import open_run

    modalities = tuple(sorted(shop.tables))
    tags = {"mmsa.corpus": shop.corpus.name, "mmsa.head": item.entry.head, "mmsa.modalities": "+".join(modalities)}
    experiment = item.config.experiment or f"mmsa-{shop.corpus.name}"
    with open_run(experiment, f"{item.entry.head}-{'+'.join(modalities)}", tags, item.parent, "classical") as run:
        fitted = fit_classical(shop.split("train"), shop.split("valid"), shop.tasks, **item.entry.options)
        choice = {machine.task.name: vars(machine.choice) for machine in fitted.machines}
        parameters = sum(machine.parameters for machine in fitted.machines)
        kept = {split: _say(fitted, shop, split, read_functionals) for split in ("valid", "test")}
        run.params({f"{task}.{key}": value for task, own in choice.items() for key, value in own.items()})
        run.params({"parameters": parameters, "modalities": "+".join(modalities), "fusion": item.entry.head})
        run.metrics(_test_metrics(kept["test"], shop))
        run.metrics({"train_seconds": fitted.train_seconds})
    about = {
        "head": item.entry.head,
        "run_id": run.run_id,
        "parameters": parameters,
        "epochs": 0,
        "best_epoch": 0,
        "train_seconds": round(fitted.train_seconds, 3),
        "choice": choice,
        "machine": machine(),
    }
    return about, kept["valid"], kept["test"]


def _say(fitted: Any, shop: Workshop, split: Any, read: Any) -> SplitPredictions:
    from mmsa.evaluation import modality_subsets

    data = shop.split(split)
    values, columns = read(data)
    full = tuple(sorted(columns))
    subsets: dict[str, Mapping[str, Any]] = {}
    for subset in modality_subsets(full) if split == "test" else ():
        if subset != full:
            subsets["+".join(subset)] = fitted.predict(values, subset)
    return SplitPredictions(tuple(clip.id for clip in data.clips), dict(data.labels), fitted.predict(values), subsets)


def _test_metrics(test: SplitPredictions, shop: Workshop) -> dict[str, float]:
    from mmsa.metrics import compute_metrics

    return {
        f"test/{task.name}.{name}": value
        for task in shop.tasks
        for name, value in compute_metrics(task, test.outputs[task.name], test.labels[task.name]).items()
    }
