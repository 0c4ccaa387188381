"""One training in one process and in several: clips per second, their ratio, and how far the weights are apart.

    torchrun --nproc-per-node 2 benchmarks/processes.py --head mult

Every process first trains nothing while the main one trains alone (with as many threads as it has in the launch),
then all train the same updates together, from the same weights on the same made-up clips. Lengths are those of speech:
5 to 30 words, 20 audio and 15 video steps a second. On a CPU give every process cores of its own, or the ratio says
nothing; the second measure is one process alone while the others compute the same beside it: what the machine loses to
memory and cache by being busy, apart from what processes lose by waiting for each other.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch

from extractors.spec import ExtractorSpec
from mmsa.config import TrainConfig
from mmsa.corpora.clip import Clip, Corpus
from mmsa.data import SplitData
from mmsa.distributed import ALONE, Group, current, join, own_device
from mmsa.features import FeatureTable
from mmsa.losses import Objective
from mmsa.model import ModelConfig, MultimodalModel
from mmsa.sharing import Sharing
from mmsa.tasks import Regression
from mmsa.trainer import Trainer, relates_clips

TASKS = (Regression("sentiment", -3, 3),)
DIMS = {"text": 768, "audio": 74, "vision": 35}
STEPS_PER_WORD = {"text": 1.0, "audio": 7.0, "vision": 5.25}


def make_clips(clips: int) -> SplitData:
    """The same in every process."""
    random = np.random.default_rng(0)
    words = random.integers(5, 31, clips)
    tables = {}
    for key, dim in DIMS.items():
        lengths = np.ceil(words * STEPS_PER_WORD[key]).astype(np.int64)
        values = random.normal(size=(lengths.sum(), dim)).astype(np.float32)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        names = tuple(map(str, range(dim)))
        tables[key] = FeatureTable(
            ExtractorSpec(f"{key}.made", "none", "1", {}), names, values, np.zeros((len(values), 2)), offsets, {}
        )
    labelled = [Clip(str(i), "train", {"sentiment": float(random.uniform(-3, 3))}) for i in range(clips)]
    return SplitData(Corpus("made", tuple(labelled), TASKS), tables, "train", TASKS)


def new_trainer(data: SplitData, config: TrainConfig, device: torch.device, group: Group) -> Trainer:
    """A trainer with the same weights every time, whose updates are shared by a group."""
    torch.manual_seed(0)
    model = MultimodalModel(ModelConfig(config.fusion, DIMS, 1, {"dropout": 0.0}))
    model.to(device).train()
    if config.sharding == "full" and group.size > 1:
        from mmsa.sharding import sharded_copy

        model = sharded_copy(model)
    trainer = Trainer(model, Objective(TASKS, config.loss).to(device), data, config, device=device, updates_per_epoch=1)
    together = relates_clips(model, config) or config.sharding == "full"
    trainer.sharing = None if group.size == 1 else Sharing(group, together=together, seed=0, device=device)
    return trainer


def train(trainer: Trainer, clips: int, batch: int, updates: int) -> float:
    """Clips per second over some updates, after two that count for nothing."""
    random = np.random.default_rng(1)
    batches = [random.choice(clips, batch, replace=False) for _ in range(updates + 2)]
    for own in batches[:2]:
        trainer.step([own])
    start = time.perf_counter()
    for own in batches[2:]:
        trainer.step([own])
    return updates * batch / (time.perf_counter() - start)


def main() -> None:
    """Measure and print; in the main process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", default="mult")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--clips", type=int, default=512)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sharding", default="none", choices=["none", "full"])
    given = parser.parse_args()
    group = join()
    if group.size == 1:
        parser.error("launch several processes: torchrun --nproc-per-node 2 benchmarks/processes.py")
    device = own_device(torch.device(given.device))
    settings: dict[str, Any] = {"fusion": given.head, "modality_dropout": 0.0, "sharding": given.sharding}
    shared = TrainConfig.model_validate(settings)
    own = TrainConfig.model_validate({**settings, "sharding": "none"})
    torch.set_flush_denormal(True)
    data = make_clips(given.clips)
    data.device = device
    for steps in data.steps.values():
        steps.device, steps.values = device, steps.values.to(device)
    found: dict[str, float] = {}
    alone = new_trainer(data, own, device, ALONE)
    if group.is_main:
        found["alone"] = train(alone, given.clips, given.batch, given.updates)
    current().gather(None)
    beside = new_trainer(data, own, device, ALONE)
    found["beside others"] = train(beside, given.clips, given.batch, given.updates)
    current().gather(None)
    together = new_trainer(data, shared, device, group)
    found["together"] = train(together, given.clips, given.batch, given.updates)
    weights = {key: value for key, value in together.tensors().items() if key.startswith("model.")}
    if not group.is_main:
        return
    reference = alone.tensors()
    apart = max(float((value.cpu() - reference[key].cpu()).abs().max()) for key, value in weights.items())
    largest = max(float(reference[key].abs().max()) for key in weights)
    result = {
        "head": given.head,
        "device": str(device),
        "processes": group.size,
        "threads": torch.get_num_threads(),
        "sharding": given.sharding,
        "parameters": sum(p.numel() for p in alone.model.parameters()),
        "batch": given.batch,
        "clips_per_second": {key: round(value, 1) for key, value in found.items()},
        "ratio_together_to_alone": round(found["together"] / found["alone"], 3),
        "ratio_together_to_all_beside": round(found["together"] / (group.size * found["beside others"]), 3),
        "weights_apart": apart,
        "largest_weight": largest,
        "updates": given.updates + 2,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
