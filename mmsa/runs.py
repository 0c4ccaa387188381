"""`train`: from a configuration to a finished, tracked run with its bundle."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mmsa.bundle import Bundle, library_versions
from mmsa.config import TrainConfig
from mmsa.corpora import load_corpus
from mmsa.corpora.clip import SPLITS, Corpus, Split
from mmsa.errors import UsageError, unknown
from mmsa.tasks import Regression, Task
from mmsa.tracking import BUNDLE, Tracker, find_bundle, open_run

if TYPE_CHECKING:
    import torch

    from extractors.base import Extractor
    from extractors.spec import ExtractorSpec
    from fusion import FusionHead
    from mmsa.data import SplitData
    from mmsa.evaluation import Predictions
    from mmsa.features import FeatureTable
    from mmsa.model import ModelConfig, MultimodalModel
    from mmsa.training import Epoch, History


@dataclass(frozen=True)
class Run:
    """A finished training.

    Attributes:
        id: MLflow's run id.
        experiment: MLflow's experiment name.
        head: short name of the fusion head.
        modalities: what the model was trained on.
        seed: of this run.
        metrics: on the test split, `"<task>.<metric>"`, by modalities at hand joined with `"+"`.
        epochs: how many were trained.
        best_epoch: which was kept.
        train_seconds: the loop alone, without extraction.
        notes: what a reader must know (missing modalities, the corpus's own note).
    """

    id: str
    experiment: str
    head: str
    modalities: tuple[str, ...]
    seed: int
    metrics: Mapping[str, Mapping[str, float]]
    epochs: int
    best_epoch: int
    train_seconds: float
    notes: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def test_metrics(self) -> Mapping[str, float]:
        """Test metrics with every modality at hand."""
        return self.metrics["+".join(self.modalities)]

    @property
    def bundle(self) -> Path:
        """The run's bundle folder."""
        return find_bundle(self.id)


@dataclass(frozen=True, eq=False)
class Workshop:
    """What several runs on one corpus share: clips, features, tasks.

    Attributes:
        corpus: the clips.
        tasks: those to learn.
        extractors: by modality; none for features that came ready-made with the corpus.
        tables: features by modality.
    """

    corpus: Corpus
    tasks: tuple[Task, ...]
    extractors: Mapping[str, Extractor]
    tables: Mapping[str, FeatureTable]

    @property
    def specs(self) -> dict[str, ExtractorSpec]:
        """What made each modality's features."""
        made = {key: extractor.spec for key, extractor in self.extractors.items()}
        return {key: made.get(key, table.spec) for key, table in sorted(self.tables.items())}

    def split(self, name: Split) -> SplitData:
        """The data of one split."""
        from mmsa.data import SplitData

        return SplitData(self.corpus, self.tables, name, self.tasks)


def train(config: TrainConfig | None = None, *, on_epoch: Callable[[Epoch], None] | None = None) -> Run:
    """Train one model, evaluate it on the test split, and leave both in MLflow.

    Args:
        config: None trains late fusion on the demo corpus.
        on_epoch: called after each epoch.

    Raises:
        UsageError: the configuration asks for what cannot be done.
    """
    config = config or TrainConfig()
    return next(train_seeds(config, (config.seed,), on_epoch=on_epoch))


def train_seeds(
    config: TrainConfig, seeds: Sequence[int], *, on_epoch: Callable[[Epoch], None] | None = None
) -> Iterator[Run]:
    """One run per seed over the same features; each is yielded as it finishes.

    Raises:
        UsageError: the configuration asks for what cannot be done.
    """
    from mmsa.model import check_options

    device = choose_device(config.device)
    check_options(config.fusion, config.head)
    shop = open_workshop(config)
    for seed in seeds:
        seeded = config.model_copy(update={"seed": seed})
        yield train_on(seeded, shop, device=device, on_epoch=on_epoch)


def choose_device(name: str) -> torch.device:
    """`"auto"` takes a CUDA device where there is one.

    Raises:
        UsageError: CUDA is asked for and not there.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "device 'cuda' was asked for, but torch sees none: `mmsa doctor` says why; use 'auto' or 'cpu'"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def open_workshop(config: TrainConfig) -> Workshop:
    """Load the corpus and its features. What the head refuses is said before anything is extracted.

    Features that came ready-made with the corpus are used as they are, unless the configuration names an extractor
    for their modality.

    Raises:
        UsageError: unknown corpus, task, modality or extractor, a modality that no clip has, or a head that cannot be
            built for these sizes.
    """
    import extractors as ex
    from mmsa.features import load_features
    from mmsa.model import build_head
    from mmsa.precomputed import open_precomputed

    corpus = load_corpus(config.corpus, config.root)
    tasks = _choose_tasks(corpus, config.tasks)
    modalities = config.modalities or _modalities_of(corpus)
    ready = sorted(key for key in modalities if key in corpus.features and key not in config.extractors)
    wanted = {key: config.extractor(key) for key in sorted(set(modalities) - set(ready))}
    try:
        built = {key: ex.build(choice.name, **choice.parameters) for key, choice in wanted.items()}
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise UsageError(str(error)) from None
    wrong = [f"{wanted[k].name} makes {e.modality}, not {k}" for k, e in built.items() if e.modality != k]
    if wrong:
        raise UsageError("; ".join(wrong))
    for split in SPLITS:
        if not corpus.split(split):
            raise UsageError(f"the corpus {corpus.name} has no {split} split: training needs train, valid and test")
    tables = {key: open_precomputed(corpus, key) for key in ready}
    sizes = {key: len(table.names) for key, table in tables.items()}
    sizes.update({key: len(extractor.names) for key, extractor in built.items()})
    build_head(_sized(config, sizes, tasks))
    return Workshop(corpus, tasks, built, {**tables, **load_features(corpus, built, jobs=config.jobs)})


def _modalities_of(corpus: Corpus) -> tuple[str, ...]:
    media = any(clip.media is not None for clip in corpus.clips)
    text = any(clip.transcript for clip in corpus.clips)
    extracted = (*(("audio", "vision") if media else ()), *(("text",) if text else ()))
    return tuple(sorted({*extracted, *corpus.features}))


def _choose_tasks(corpus: Corpus, names: tuple[str, ...] | None) -> tuple[Task, ...]:
    by_name = {task.name: task for task in corpus.tasks}
    wanted = names or corpus.default_tasks or tuple(by_name)
    for name in wanted:
        if name not in by_name:
            raise unknown(f"task of the corpus {corpus.name}", name, by_name)
    return tuple(by_name[name] for name in wanted)


def train_on(
    config: TrainConfig,
    shop: Workshop,
    *,
    device: torch.device,
    on_epoch: Callable[[Epoch], None] | None = None,
    parent: str | None = None,
) -> Run:
    """Train one model on features that are open already, evaluate it on the test split, and leave both in MLflow.

    Args:
        config: its seed decides the weights, dropout and the order of batches.
        shop: from `open_workshop`.
        device: where to train.
        on_epoch: called after each epoch.
        parent: id of the MLflow run that this one is nested in.
    """
    import torch

    from mmsa.evaluation import modality_subsets, predict
    from mmsa.features import summarise_missing
    from mmsa.model import MultimodalModel
    from mmsa.training import fit

    torch.manual_seed(config.seed)
    model = MultimodalModel(model_config(config, shop))
    modalities = tuple(model.config.input_dims)
    notes = tuple(filter(None, (shop.corpus.note, *summarise_missing(shop.tables))))
    experiment = config.experiment or f"mmsa-{shop.corpus.name}"
    name = f"{model.config.head}-{'+'.join(modalities)}-seed{config.seed}"
    tags = {"mmsa.corpus": shop.corpus.name, "mmsa.head": model.config.head, "mmsa.modalities": "+".join(modalities)}
    with open_run(
        experiment, name, {**tags, **({"mlflow.note.content": "\n\n".join(notes)} if notes else {})}, parent
    ) as run:
        run.params(_params(config, model, shop))

        def log(epoch: Epoch) -> None:
            run.metrics(_epoch_metrics(epoch), epoch.number)
            if on_epoch is not None:
                on_epoch(epoch)

        start = time.perf_counter()
        history = fit(model, shop.split("train"), shop.split("valid"), shop.tasks, config, device=device, on_epoch=log)
        seconds = time.perf_counter() - start
        test = shop.split("test")
        found = {
            "+".join(subset): predict(model, test, shop.tasks, device=device, modalities=subset)
            for subset in modality_subsets(modalities)
        }
        predictions = found["+".join(modalities)]
        metrics = {subset: own.metrics(shop.tasks) for subset, own in found.items()}
        _log_results(run, metrics, "+".join(modalities), seconds, history)
        baseline = _mean_prediction(model, shop, device)
        _log_artifacts(run, model, shop, predictions, history, config, baseline)
    return Run(
        id=run.run_id,
        experiment=experiment,
        head=model.config.head,
        modalities=modalities,
        seed=config.seed,
        metrics=metrics,
        epochs=len(history.epochs),
        best_epoch=history.best,
        train_seconds=seconds,
        notes=notes,
        weights={key: float(value.mean()) for key, value in predictions.weights.items()},
    )


def model_config(config: TrainConfig, shop: Workshop) -> ModelConfig:
    """The head and sizes that a configuration means on a corpus's features.

    Raises:
        ValueError: no such head.
    """
    return _sized(config, {key: len(table.names) for key, table in shop.tables.items()}, shop.tasks)


def _sized(config: TrainConfig, sizes: Mapping[str, int], tasks: Sequence[Task]) -> ModelConfig:
    from fusion import head_class
    from mmsa.model import ModelConfig

    kind = head_class(config.fusion)
    return ModelConfig(
        head=kind.name,
        input_dims=dict(sorted(sizes.items())),
        output_dim=sum(task.output_dim for task in tasks),
        head_options={**_options_from_tasks(kind, tasks), **config.head},
        grid_steps=config.grid_steps,
    )


def _options_from_tasks(kind: type[FusionHead], tasks: Sequence[Task]) -> dict[str, object]:
    """What heads with pseudo-labels must know of the tasks: which outputs are scores, and how far these reach."""
    import inspect

    columns, reach, start = [], 1.0, 0
    for task in tasks:
        if isinstance(task, Regression):
            columns.append(start)
            reach = max(abs(task.low), abs(task.high))
        start += task.output_dim
    derived: dict[str, object] = {"label_columns": columns, "label_range": reach}
    taken = inspect.signature(kind).parameters
    return {key: value for key, value in derived.items() if key in taken}


def _mean_prediction(model: MultimodalModel, shop: Workshop, device: torch.device) -> tuple[float, ...]:
    """What the model says on average about the training split, as people read it."""
    import torch

    from mmsa.evaluation import predict
    from mmsa.model import readable

    found = predict(model, shop.split("train"), shop.tasks, device=device)
    outputs = torch.cat([torch.from_numpy(found.outputs[task.name]) for task in shop.tasks], dim=1)
    return tuple(readable(shop.tasks, outputs).mean(dim=0).tolist())


def _epoch_metrics(epoch: Epoch) -> dict[str, float]:
    values = {"train/loss": epoch.train_loss, "valid/loss": epoch.valid_loss}
    values.update({f"train/{key}": value for key, value in epoch.parts.items()})
    values.update({f"valid/{key}": value for key, value in epoch.valid_metrics.items()})
    return values


def _log_results(
    run: Tracker, metrics: Mapping[str, Mapping[str, float]], full: str, seconds: float, history: History
) -> None:
    values = {f"test/{key}": value for key, value in metrics[full].items()}
    for subset, found in metrics.items():
        values.update({f"test-{subset.replace('+', '-')}/{key}": value for key, value in found.items()})
    values["train_seconds"] = seconds
    values["best_epoch"] = history.best
    run.metrics(values, step=history.best)


def _params(config: TrainConfig, model: MultimodalModel, shop: Workshop) -> dict[str, object]:
    settings = config.model_dump(exclude={"extractors", "head", "modalities", "tasks"})
    params: dict[str, object] = {**settings, "modalities": "+".join(model.config.input_dims)}
    params["tasks"] = "+".join(task.name for task in shop.tasks)
    params.update({f"head.{key}": value for key, value in config.head.items()})
    params.update({f"extractor.{key}": spec.to_json() for key, spec in shop.specs.items()})
    params["parameters"] = sum(p.numel() for p in model.parameters())
    params.update({f"clips.{split}": len(shop.corpus.split(split)) for split in SPLITS})
    params.update({f"version.{key}": value for key, value in library_versions().items()})
    return params


def _log_artifacts(
    run: Tracker,
    model: MultimodalModel,
    shop: Workshop,
    predictions: Predictions,
    history: History,
    config: TrainConfig,
    baseline: tuple[float, ...],
) -> None:
    from mmsa.pictures import draw_all

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bundle = Bundle(
            model.cpu(), shop.tasks, shop.specs, shop.corpus.name, shop.corpus.note, library_versions(), baseline
        )
        bundle.save(folder / BUNDLE)
        pictures = folder / "pictures"
        pictures.mkdir()
        draw_all(pictures, shop.tasks, predictions, history)
        _write_predictions(folder / "predictions_test.csv", shop.tasks, predictions)
        (folder / "config.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        run.artifacts(folder)


def _write_predictions(path: Path, tasks: Sequence[Task], predictions: Predictions) -> None:
    """One row per test clip: label and outputs of every task, so that any metric can be computed again."""
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        outputs = [f"{task.name}.{name}" for task in tasks for name in getattr(task, "classes", ("prediction",))]
        writer.writerow(["clip", *(f"{task.name}.label" for task in tasks), *outputs])
        for row, clip in enumerate(predictions.clips):
            labels = [json.dumps(float(predictions.labels[task.name][row])) for task in tasks]
            values = [repr(float(v)) for task in tasks for v in predictions.outputs[task.name][row]]
            writer.writerow([clip, *labels, *values])
