"""The workshop: a corpus with its features and tasks, opened once for all runs on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmsa.config import TrainConfig
from mmsa.corpora import load_corpus
from mmsa.corpora.clip import SPLITS, Corpus, Split
from mmsa.distributed import own_device
from mmsa.errors import UsageError, unknown
from mmsa.tasks import Regression, Task
from mmsa.words import WordOptions

if TYPE_CHECKING:
    import torch

    from extractors.base import Extractor
    from extractors.spec import ExtractorSpec
    from fusion import FusionHead
    from mmsa.data import SplitData
    from mmsa.features import FeatureTable
    from mmsa.features.aligned import Grid
    from mmsa.model import ModelConfig
    from mmsa.steps import Steps


@dataclass(frozen=True, eq=False)
class Workshop:
    """What several runs on one corpus share: clips, features, tasks.

    Attributes:
        corpus: the clips.
        tasks: those to learn.
        extractors: by modality; none for features that came ready-made with the corpus.
        tables: features by modality, as models are trained on them: on the grid, where there is one.
        extracted: the same as they were extracted.
        words: the speech models that transcripts were made with, as a bundle keeps them.
        remarks: what a reader of results must know of the words.
        opened: the tables as tensors, by the device that their batches come on.
    """

    corpus: Corpus
    tasks: tuple[Task, ...]
    extractors: Mapping[str, Extractor]
    tables: Mapping[str, FeatureTable]
    extracted: Mapping[str, FeatureTable]
    words: WordOptions = field(default_factory=WordOptions)
    remarks: tuple[str, ...] = ()
    opened: dict[torch.device, dict[str, Steps]] = field(default_factory=dict, init=False, repr=False)

    @property
    def specs(self) -> dict[str, ExtractorSpec]:
        """What made each modality's features."""
        made = {key: extractor.spec for key, extractor in self.extractors.items()}
        return {key: made.get(key, table.spec) for key, table in sorted(self.tables.items())}

    def split(self, name: Split, device: torch.device | None = None, *, resident_mb: int | None = None) -> SplitData:
        """The data of one split.

        Args:
            name: of the split.
            device: where batches are wanted; None is the CPU. All splits and all runs share what lies there.
            resident_mb: see `TrainConfig`; decided by whoever asks first for this device.
        """
        from mmsa.data import CPU, SplitData
        from mmsa.steps import open_steps

        device = device or CPU
        if device not in self.opened:
            self.opened[device] = open_steps(self.tables, device, resident_mb)
        return SplitData(self.corpus, self.tables, name, self.tasks, steps=self.opened[device], device=device)


def open_workshop(config: TrainConfig) -> Workshop:
    """Load the corpus and its features. What the head refuses is said before anything is extracted.

    Features that came ready-made with the corpus are used as they are, unless the configuration names an extractor
    for their modality.

    Raises:
        UsageError: unknown corpus, task, modality or extractor, a modality that no clip has, or a head that cannot be
            built for these sizes.
    """
    from mmsa.features import load_features
    from mmsa.features.aligned import align_tables, check_grid
    from mmsa.features.choose import choose_extractors
    from mmsa.features.transcripts import hear_words
    from mmsa.losses import check_loss
    from mmsa.model import build_head
    from mmsa.precomputed import open_precomputed
    from mmsa.selection import Selection

    corpus = load_corpus(config.corpus, config.root)
    tasks = _choose_tasks(corpus, config.tasks)
    ready, built = choose_extractors(corpus, config)
    for split in SPLITS:
        if not corpus.split(split):
            raise UsageError(f"the corpus {corpus.name} has no {split} split: training needs train, valid and test")
    tables = {key: open_precomputed(corpus, key) for key in ready}
    if config.grid is not None:
        made = {key: extractor.spec for key, extractor in built.items()}
        check_grid(config.grid, made | {key: table.spec for key, table in tables.items()})
    sizes = {key: len(table.names) for key, table in tables.items()}
    sizes.update({key: len(extractor.names) for key, extractor in built.items()})
    build_head(sized_config(config, sizes, tasks))
    check_loss(config.loss, tasks)
    Selection(config.select, tasks)
    corpus, heard, source = hear_words(corpus, config.words.options, built, jobs=config.jobs)
    tables.update(
        load_features(corpus, built, jobs=config.jobs, store_dtype=config.feature_dtype, device=config.device)
    )
    trained = tables if config.grid is None else align_tables(corpus, tables, config.grid)
    remarks = [*(heard.told(source) if heard and source else ()), *_guessed_times(corpus, built, config)]
    return Workshop(corpus, tasks, built, trained, tables, source.kept() if source else WordOptions(), tuple(remarks))


def _guessed_times(corpus: Corpus, built: Mapping[str, Extractor], config: TrainConfig) -> Iterator[str]:
    """Whether words lie on a grid at times that nobody measured."""
    count = sum(bool(clip.transcript) and clip.media is not None and clip.timed is None for clip in corpus.clips)
    if config.grid is not None and "text" in built and count:
        yield (
            f"The words of {count} clips have no times: they are spread evenly over the clip, by their length, before "
            f"they are put on the grid ({config.grid}); words.align, with a CTC model, finds when they are said"
        )


def _choose_tasks(corpus: Corpus, names: tuple[str, ...] | None) -> tuple[Task, ...]:
    by_name = {task.name: task for task in corpus.tasks}
    wanted = names or corpus.default_tasks or tuple(by_name)
    for name in wanted:
        if name not in by_name:
            raise unknown(f"task of the corpus {corpus.name}", name, by_name)
    return tuple(by_name[name] for name in wanted)


def choose_device(name: str) -> torch.device:
    """`"auto"` takes a CUDA device where there is one; of processes that train together each takes its own.

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
    return own_device(torch.device(name))


def model_config(config: TrainConfig, shop: Workshop) -> ModelConfig:
    """The head and sizes that a configuration means on a corpus's features.

    Raises:
        ValueError: no such head.
    """
    return sized_config(config, {key: len(table.names) for key, table in shop.tables.items()}, shop.tasks)


def sized_config(config: TrainConfig, sizes: Mapping[str, int], tasks: Sequence[Task]) -> ModelConfig:
    """The head and sizes that a configuration means, given the number of features by modality.

    Raises:
        ValueError: no such head.
    """
    from fusion import head_class
    from mmsa.encoders.spec import encoder_spec
    from mmsa.model import ModelConfig

    kind = head_class(config.fusion)
    encoders = {key: encoder_spec(key, own) for key, own in sorted(config.encoders.items()) if key in sizes}
    sizes = {**sizes, **{key: spec.dim for key, spec in encoders.items()}}
    return ModelConfig(
        head=kind.name,
        input_dims=dict(sorted(sizes.items())),
        output_dim=sum(task.output_dim for task in tasks),
        head_options={**_options_from_data(kind, tasks, config.grid), **config.head},
        grid_steps=config.grid_steps if config.grid is None else None,
        encoders={key: spec.to_dict() for key, spec in encoders.items()},
        grid=config.grid,
    )


def _options_from_data(kind: type[FusionHead], tasks: Sequence[Task], grid: Grid | None) -> dict[str, object]:
    """What heads must know of tasks and features.

    Those with pseudo-labels, which outputs are scores and how far these reach; those that would lay a grid of their
    own, that the features lie on one.
    """
    import inspect

    columns, reach, start = [], 1.0, 0
    for task in tasks:
        if isinstance(task, Regression):
            columns.append(start)
            reach = max(abs(task.low), abs(task.high))
        start += task.output_dim
    derived: dict[str, object] = {"label_columns": columns, "label_range": reach}
    if grid is not None:
        derived["grid_steps"] = None
    taken = inspect.signature(kind).parameters
    return {key: value for key, value in derived.items() if key in taken}
