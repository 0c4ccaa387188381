"""What launched processes do in tests; each process writes what it has to a file that the test compares.

`torchrun … launched_jobs.py FOLDER` does every job of `JOBS` in one launch, since starting costs more than they do.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from extractors.spec import ExtractorSpec
from extractors.text.tokens import BEGINS
from mmsa.checkpoint import Checkpoints, module_tensors
from mmsa.config import TrainConfig
from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.data import SplitData
from mmsa.distributed import current, join
from mmsa.errors import UsageError
from mmsa.evaluation import predict
from mmsa.features import FeatureTable
from mmsa.losses import Objective
from mmsa.model import ModelConfig, MultimodalModel
from mmsa.tasks import Classification, Regression
from mmsa.trainer import Trainer
from mmsa.training import Epoch, fit

TASKS = (Regression("sentiment", -1, 1), Classification("emotion", ("low", "high")))
CPU = torch.device("cpu")
Found = tuple[dict[str, Tensor], dict[str, Any]]


def make_split(split: Split = "train", clips: int = 13, *, pieces: bool = False) -> SplitData:
    """Two modalities, ragged, some missing; some clips lack one label or both; the same in every process.

    Args:
        split: which.
        clips: how many.
        pieces: text is word pieces, as an encoder reads them.
    """
    random = np.random.default_rng(len(split))
    labels: list[dict[str, Any]] = []
    for i in range(clips):
        own = {"sentiment": float(random.uniform(-1, 1)), "emotion": TASKS[1].classes[i % 2]}
        labels.append({key: own[key] for key in own if i not in {"sentiment": (1, 5), "emotion": (5, 8)}[key]})
    corpus = Corpus("made", tuple(Clip(str(i), split, own) for i, own in enumerate(labels)), TASKS)
    lengths = {"audio": random.integers(0, 6, clips), "text": random.integers(1, 9, clips)}
    tables = {key: _table(key, [random.normal(size=(n, 2)) for n in own]) for key, own in lengths.items()}
    if pieces:
        ids = random.integers(5, 19, len(tables["text"].values))
        steps = np.stack([np.zeros(len(ids)), ids, np.full(len(ids), BEGINS)], axis=1).astype(np.float32)
        tables["text"] = replace(tables["text"], values=steps, names=("high", "low", "word"))
    return SplitData(corpus, tables, split, TASKS)


def _table(modality: str, sequences: list[Any]) -> FeatureTable:
    values = np.concatenate(sequences).astype(np.float32)
    offsets = np.cumsum([0, *map(len, sequences)], dtype=np.int64)
    times = np.zeros((len(values), 2))
    return FeatureTable(ExtractorSpec(f"{modality}.made", "none", "1", {}), ("a", "b"), values, times, offsets, {})


def new_model(head: str, **options: Any) -> MultimodalModel:
    torch.manual_seed(0)
    sizes = {"audio": 2, "text": 2}
    return MultimodalModel(ModelConfig(head, sizes, 3, {"hidden_dim": 8, "dropout": 0.0, **options}))


UPDATES = (((0, 1, 2, 3, 4), (5, 6)), ((7,),), ((8, 9, 10, 11, 12),), ((0, 3, 6, 9, 12), (1, 4, 7, 10)))
"""Batches of four updates; the second holds fewer clips than there are processes."""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("late", {}),
    "parts": ("late", {"part_steps": 12, "modality_dropout": 0.5, "ema_decay": 0.9}),
    "weighted": (
        "late",
        {"loss": {"class_weights": "balanced", "task_weights": "learned", "regression": "huber"}, "clip_norm": 0.05},
    ),
    "unused": ("mmim", {"loss": {"head_weight": 0.0}, "weight_decay": 0.5}),
    "concordance": ("late", {"loss": {"regression": "ccc", "task_weights": "learned"}}),
    "concordance_parts": ("late", {"loss": {"regression": "ccc"}, "part_steps": 12}),
    "pseudo_labels": ("self_mm", {"modality_dropout": 0.3}),
    "sharded": ("late", {"sharding": "full", "part_steps": 12, "modality_dropout": 0.5, "ema_decay": 0.9}),
    "sharded_pseudo_labels": ("self_mm", {"sharding": "full", "modality_dropout": 0.3}),
    "bf16": ("late", {"precision": "bf16"}),
}


def new_trainer(name: str, *, alone: bool = False, **options: Any) -> Trainer:
    """The trainer of a case; `alone` is one process's, whose parameters are whole."""
    from mmsa.sharding import sharded_copy

    head, settings = CASES[name]
    if alone:
        settings = {key: value for key, value in settings.items() if key != "sharding"}
    config = TrainConfig.model_validate({"learning_rate": 0.02, "modality_dropout": 0.0, **settings})
    data, model = make_split(), new_model(head, **options)
    if config.sharding == "full":
        model = sharded_copy(model)
    objective = Objective(TASKS, config.loss, data.labels)
    torch.manual_seed(1)
    model.train()
    return Trainer(model, objective, data, config, device=CPU, updates_per_epoch=4)


def make_updates(trainer: Trainer, passes: int = 2) -> Found:
    """What all updates left: tensors of a checkpoint, and terms, norms and clips of each update."""
    told = [asdict(trainer.step([np.array(batch, np.int64) for batch in batches])) for batches in UPDATES * passes]
    return {key: value.detach().clone() for key, value in trainer.tensors().items()}, {"updates": told}


def updates(name: str) -> Callable[[Path], Found]:
    return lambda _: make_updates(new_trainer(name))


ENCODED = {"encoded_full": "full", "encoded_lora": "lora", "encoded_checkpointed": "full"}


def encoded_trainer(name: str, folder: Path, *, sharding: str = "full") -> Trainer:
    """A small BERT that is trained in front of the head, by all of it or by adapters; text steps are word pieces."""
    from mmsa.encoders.spec import encoder_spec
    from mmsa.sharding import sharded_copy

    settings: dict[str, Any] = {"model": str(save_bert(folder)), "tune": ENCODED[name], "learning_rate": 0.01}
    if name == "encoded_checkpointed":
        settings["gradient_checkpointing"] = True
    own = {"encoders": {"text": settings}, "sharding": sharding, "learning_rate": 0.02, "modality_dropout": 0.0}
    config = TrainConfig.model_validate({**own, "part_steps": 40})
    assert config.encoders is not None
    spec = encoder_spec("text", config.encoders["text"])
    torch.manual_seed(0)
    sizes, options = {"audio": 2, "text": spec.dim}, {"hidden_dim": 8, "dropout": 0.0}
    model = MultimodalModel(ModelConfig("late", sizes, 3, options, encoders={"text": spec.to_dict()}))
    with torch.no_grad():  # adapters begin with zeros, which get no gradient through each other
        for part, parameter in model.named_parameters():
            if "lora_B" in part:
                parameter.normal_(0.0, 0.3)
    if settings.get("gradient_checkpointing"):
        model.encoders["text"].checkpoint_activations()  # type: ignore[operator]
    if sharding == "full":
        model = sharded_copy(model)
    data = make_split(pieces=True)
    objective = Objective(TASKS, config.loss, data.labels)
    torch.manual_seed(1)
    model.train()
    return Trainer(model, objective, data, config, device=CPU, updates_per_epoch=4)


def save_bert(folder: Path) -> Path:
    """The one that the tests of encoders build; the main process writes it."""
    where = Path(__file__).parent / "encoders" / "conftest.py"
    found = importlib.util.spec_from_file_location("encoders_conftest", where)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    folder.mkdir(parents=True, exist_ok=True)
    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return current().share(lambda: module.save_bert(folder / "bert", **without))


def encoded(name: str) -> Callable[[Path], Found]:
    return lambda folder: make_updates(encoded_trainer(name, folder))


def shards(_: Path) -> Found:
    """How many numbers this process holds of the parameters, and of the optimiser's memory."""
    trainer = new_trainer("sharded")
    make_updates(trainer, 1)
    local = sum(p.to_local().numel() for p in trainer.model.parameters())  # type: ignore[operator]
    memory = [value for own in trainer.optimiser.state.values() for key, value in own.items() if key != "step"]
    return {}, {"local": local, "optimiser": sum(value.to_local().numel() for value in memory)}


def not_finite(_: Path) -> Found:
    """What a sharded trainer says of a loss that is not finite, and of a gradient."""
    told = []
    for spoil in ("weights", "gradient"):
        trainer = new_trainer("sharded")
        if spoil == "weights":
            with torch.no_grad():
                for parameter in trainer.model.parameters():
                    parameter.fill_(torch.inf)
        else:
            add_up = trainer.sharing.add_up  # type: ignore[union-attr]

            def spoiled(sums: Tensor, modules: Any, add_up: Any = add_up, trainer: Trainer = trainer) -> Tensor:
                for parameter in trainer.model.parameters():
                    parameter.grad.fill_(torch.nan)  # type: ignore[union-attr]
                return add_up(sums, modules)

            trainer.sharing.add_up = spoiled  # type: ignore[union-attr, method-assign]
        try:
            trainer.step([np.arange(13)])
        except UsageError as error:
            told.append(str(error))
    return {}, {"told": told}


def own_losses(_: Path) -> Found:
    """A head whose own losses are made within it, of the clips at hand."""
    head, settings = "misa", {"modality_dropout": 0.0}
    data = make_split()
    config = TrainConfig.model_validate(settings)
    trainer = Trainer(
        new_model(head), Objective(TASKS, config.loss, data.labels), data, config, device=CPU, updates_per_epoch=4
    )
    update = trainer.step([np.arange(13)])
    return {}, {"terms": update.terms, "split": trainer.facts()["split_losses"]}


def dropout(_: Path) -> Found:
    """The state of the global generator, and what each process drew from its own, per update."""
    from mmsa.sharing import Sharing

    sharing = Sharing(current(), together=False, seed=3, device=CPU)
    torch.manual_seed(5)
    drawn = []
    for update in (0, 1, 0):
        with sharing.own_randomness(update):
            drawn.append((torch.rand(()).item(), float(np.random.rand())))  # noqa: NPY002
    return {}, {"drawn": drawn, "after": torch.rand(()).item()}


def evaluation(_: Path) -> Found:
    """Predictions, and how many clips this process computed for them."""
    model, data, computed = new_model("late"), make_split("valid", 9), []
    forward = MultimodalModel.forward

    def counting(self: MultimodalModel, inputs: Any) -> Any:
        computed.append(len(next(iter(inputs.values())).values))
        return forward(self, inputs)

    with mock.patch.object(MultimodalModel, "forward", counting):
        found = predict(model, data, TASKS, device=CPU, batch_size=2)
        few = predict(model, make_split("test", 1), TASKS, device=CPU)
    tensors = {f"output.{key}": torch.from_numpy(value) for key, value in found.outputs.items()}
    tensors |= {f"weight.{key}": torch.from_numpy(value) for key, value in found.weights.items()}
    tensors |= {f"few.{key}": torch.from_numpy(value) for key, value in few.outputs.items()}
    return tensors, {"loss": found.loss, "computed": computed}


FIT: dict[str, Any] = {"epochs": 4, "batch_size": 4, "learning_rate": 0.05, "modality_dropout": 0.3}


def fitted(folder: Path | None = None, until: int | None = None, **settings: Any) -> Found:
    """A whole training, or one that stops after so many epochs and leaves its checkpoint."""
    config = TrainConfig.model_validate({**FIT, **settings})
    model, epochs = new_model("late"), []
    checkpoints = Checkpoints(folder, {"a": 1}, every_updates=2) if folder is not None else None
    if checkpoints is not None and current().size > 1:
        from mmsa.following import SharedCheckpoints

        checkpoints = SharedCheckpoints(checkpoints, current())

    def on_epoch(epoch: Epoch) -> None:
        epochs.append([epoch.train_loss, epoch.valid_loss])
        if epoch.number == until:
            raise UsageError("stopped")

    torch.manual_seed(7)
    try:
        fit(
            model,
            make_split(),
            make_split("valid", 9),
            TASKS,
            config,
            device=CPU,
            on_epoch=on_epoch,
            checkpoints=checkpoints,
        )
    except UsageError:
        assert until is not None
    return {key: value.clone() for key, value in module_tensors(model).items()}, {"epochs": epochs}


def fitting(**settings: Any) -> Callable[[Path], Found]:
    return lambda _: fitted(**settings)


def resumed(**settings: Any) -> Callable[[Path], Found]:
    """Stopped after two epochs, and gone on with."""

    def job(folder: Path) -> Found:
        first = fitted(folder, until=2, **settings)[1]["epochs"]
        tensors, facts = fitted(folder, **settings)
        return tensors, {"epochs": [*first, *facts["epochs"]]}

    return job


def control(_: Path) -> Found:
    """What processes tell each other."""
    group = current()

    def fail() -> int:
        raise UsageError("no such run")

    def fail_in_one() -> int:
        if group.rank == 1:
            raise UsageError("the disk is full")
        return 1

    told: dict[str, Any] = {
        "gathered": group.gather(group.rank * 10),
        "shared": group.share(lambda: f"made by {group.rank}"),
        "decided": group.decide(group.rank == 0),
        "failures": [],
    }
    for action in (lambda: group.share(fail), lambda: group.in_turns(fail_in_one)):
        try:
            action()
        except UsageError as error:
            told["failures"].append(str(error))
    try:
        group.must_agree({"corpus": "one", "features": {"text": f"seen by {min(group.rank, 1)}"}})
    except UsageError as error:
        told["failures"].append(str(error))
    group.must_agree({"corpus": "one", "features": {"text": 1}})
    told["order"] = group.in_turns(_count)
    module = torch.nn.BatchNorm1d(2)
    module.weight.data.fill_(float(group.rank + 1))
    module.register_buffer("known", torch.tensor([group.rank == 0]))
    group.same_weights(module)
    told["weights"] = [module.weight.tolist(), module.known.tolist()]  # type: ignore[operator, union-attr]
    return {}, told


def _count() -> int:
    """How many processes have come here before."""
    before = len(list(Path().glob("came-*")))
    Path(f"came-{current().rank}").touch()
    return before


JOBS: dict[str, Callable[[Path], Found]] = {
    **{name: updates(name) for name in CASES},
    **{name: encoded(name) for name in ENCODED},
    "own_losses": own_losses,
    "dropout": dropout,
    "shards": shards,
    "not_finite": not_finite,
    "evaluation": evaluation,
    "control": control,
    "fit": fitting(),
    "fit_sharded": fitting(sharding="full", ema_decay=0.8),
    "resumed": resumed(),
    "stopped": lambda folder: fitted(folder, until=2),
    "resumed_sharded": resumed(sharding="full", ema_decay=0.8),
}


def main(folder: Path) -> None:
    group = join()
    torch.set_num_threads(1)
    for name, job in JOBS.items():
        tensors, facts = job(folder / f"checkpoint-{name}")
        save_file(
            {key: value.contiguous() for key, value in tensors.items()}, folder / f"{name}-{group.rank}.safetensors"
        )
        (folder / f"{name}-{group.rank}.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
