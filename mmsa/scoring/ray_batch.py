"""Scoring many inputs on a Ray cluster: decoding and the model as two stages of a Ray Data pipeline.

    inputs (a block each) → Extracting, a pool of actors: features in parts → Inferring, a pool of actors: windows
                          → this program: windows by file, smoothed, summarised, written

Parts are blocks of their own, and Ray holds a worker back whose parts nobody takes, so that memory is bounded
whatever the length and number of files. This program alone writes: what it has written is done, whoever dies.

A worker that dies takes the input it works on with it. Ray starts another and tries the input again, once. What is
lost after all is scored once more in a process of its own, with the cluster to itself, and then has an error row.
"""

from __future__ import annotations

import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from mmsa.bundle import DESCRIPTION, library_versions, load_bundle
from mmsa.errors import UsageError
from mmsa.scoring.batch import Recipe, at_hand, scorer_of, told
from mmsa.scoring.cluster import LOCAL, Layout, connected, lay_out
from mmsa.scoring.inputs import Input
from mmsa.scoring.parts import Ending, Part
from mmsa.scoring.remote import is_address
from mmsa.scoring.results import Score, WindowScore
from mmsa.scoring.scorer import Scorer, model_digest

RETRIES = 1
"""How often Ray itself tries an input (or a part) again whose worker died; endless by its own default."""

WAVE = 4096
"""Inputs in one pipeline; an input's block takes a kilobyte of this program's memory."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """What every worker needs; it travels to them.

    Attributes:
        recipe: how inputs are scored.
        digest: of the model.
        version: of mmsa.
        files: the bundle's, by name, in Ray's object store: for nodes that do not see its folder.
    """

    recipe: Recipe
    digest: str
    version: str
    files: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """An input on its way.

    Attributes:
        index: its place among the inputs of the pipeline.
        item: with an absolute path.
        seen: whether the program that sends it sees the file.
    """

    index: int
    item: Input
    seen: bool


@dataclass(frozen=True)
class Windows:
    """A part behind the model: its windows, and how long the file says it is."""

    windows: tuple[WindowScore, ...]
    announced_seconds: float | None


@dataclass(frozen=True)
class Failure:
    """Instead of a part: why an input cannot be scored.

    Attributes:
        reason: the text of its error row.
        fatal: it is the worker that cannot score, whatever the input.
    """

    reason: str
    fatal: bool = False


class UnfitError(Exception):
    """This worker can score nothing."""


class Worker:
    """A stage's actor. The model is loaded once, with the first row; what fails then is told beside the row.

    Args:
        setup: what to load.
        device: of torch, for the fusion model.
    """

    def __init__(self, setup: Setup, device: str = "cpu") -> None:
        import torch

        torch.set_num_threads(1)
        self.setup, self._device = setup, device
        self._scorer: Scorer | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def scorer(self) -> Scorer:
        """Of this process.

        Raises:
            UnfitError: mmsa or the model are not those of the program that started this.
        """
        if self._scorer is None:
            try:
                self._scorer = self._load()
            except Exception as error:
                raise UnfitError(f"the Ray node {_node()} cannot score: {told(error)}") from error
        return self._scorer

    def _load(self) -> Scorer:
        import torch

        setup, version = self.setup, library_versions()["mmsa-framework"]
        if version != setup.version:
            raise UsageError(f"it has mmsa-framework {version}, but this was started by {setup.version}: install that")
        if not isinstance(setup.recipe.bundle, Path):
            published = scorer_of(setup.recipe)
            if published.model["digest"] != setup.digest:
                raise UsageError("it has other published classifiers: put the same models there")
            return published
        bundle = load_bundle(self._bundle(setup.recipe.bundle))
        if model_digest(bundle) != setup.digest:
            raise UsageError(f"another model lies at {setup.recipe.bundle} there: move one of them")
        device = "cuda" if self._device == "auto" and torch.cuda.is_available() else "cpu"
        recipe = setup.recipe
        return Scorer(bundle, trust_extractors=recipe.trust_extractors, device=device, words=recipe.words)

    def _bundle(self, folder: Path) -> Path:
        """The bundle's folder where this node sees it, or else a copy."""
        if (folder / DESCRIPTION).is_file():
            return folder
        import ray

        self._folder = tempfile.TemporaryDirectory(prefix="mmsa-bundle-")
        for name, data in self.setup.files.items():
            path = Path(self._folder.name) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(ray.get(data))
        return Path(self._folder.name)


class Extracting(Worker):
    """The first stage: a `Job` in; its `Part`s and its `Ending` out, or a `Failure` in their place."""

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[Row]:
        """Rows of jobs in; a row for each part out, as soon as there is one."""
        for data in batch["data"]:
            job: Job = pickle.loads(data)  # noqa: S301 - from our own program
            for number, part in enumerate(self._read(job)):
                yield _rows([(job.index, number, pickle.dumps(part))])

    def _read(self, job: Job) -> Iterator[Part | Ending | Failure]:
        item, recipe = job.item, self.setup.recipe
        try:
            if item.error is not None:
                raise UsageError(item.error)
            if job.seen and not Path(item.path).exists():
                raise UnfitError(
                    f"the Ray node {_node()} does not see {item.path}: every node needs the media under the same path "
                    "(a shared file system), or give addresses such as s3://bucket/talk.mp4"
                )
            scorer = self.scorer
            with at_hand(item, recipe) as local:
                yield from scorer.read(local, recipe.timeline, text=item.text, span=item.span)
        except Exception as error:  # noqa: BLE001 - one bad input must not end the others
            yield _failure(error)


class Inferring(Worker):
    """The second stage: a `Part` in, its `Windows` out; what else comes is passed on."""

    def __call__(self, batch: Mapping[str, Any]) -> Row:
        """As many rows out as in."""
        rows = zip(batch["index"], batch["number"], batch["data"], strict=True)
        return _rows([(int(index), int(number), self._infer(data)) for index, number, data in rows])

    def _infer(self, data: bytes) -> bytes:
        found = pickle.loads(data)  # noqa: S301 - from our own stage before
        if not isinstance(found, Part):
            return data
        try:
            windows = tuple(self.scorer.predictor.windows(found))
        except Exception as error:  # noqa: BLE001 - one bad input must not end the others
            return pickle.dumps(_failure(error))
        return pickle.dumps(Windows(windows, found.announced_seconds))


def _rows(rows: Sequence[tuple[int, int, bytes]]) -> Row:
    indices, numbers, data = zip(*rows, strict=True)
    return {"index": list(indices), "number": list(numbers), "data": list(data)}


def _failure(error: Exception) -> Failure:
    return Failure(str(error), fatal=True) if isinstance(error, UnfitError) else Failure(told(error))


def _node() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


def score_alone(setup: Setup, job: Job) -> list[tuple[int, int, bytes]]:
    """Both stages in this process, for one input; the rows of the second."""
    extracting, inferring = Extracting(setup), Inferring(setup, "auto")
    found = []
    for row in extracting({"data": [pickle.dumps(job)]}):
        done = inferring(row)
        found.append((done["index"][0], done["number"][0], done["data"][0]))
    return found


def score_on_ray(
    items: Sequence[Input],
    recipe: Recipe,
    address: str,
    *,
    jobs: int | None = None,
    progress: Callable[[Input, float], None] | None = None,
) -> Iterator[tuple[Input, Score]]:
    """Score inputs on a Ray cluster; each comes back once, in order of completion.

    Args:
        items: what to score. Paths must be those of every node (a shared file system), or addresses.
        recipe: how; the bundle is sent to nodes that do not see its folder.
        address: see `mmsa.scoring.cluster.connected`.
        jobs: workers that extract; None takes every CPU of the cluster.
        progress: called with an input and how far it is, in [0, 1].

    Raises:
        UsageError: no Ray, no cluster, or one whose nodes cannot do this work.
    """
    with connected(address, cpus=jobs) as ray:
        scorer = scorer_of(recipe)
        encoders = scorer.words.options.listens or any(extractor.uses_gpu for extractor in scorer.extractors.values())
        layout = lay_out(ray.cluster_resources(), jobs=jobs, encoders=encoders)
        setup = make_setup(ray, recipe, address)
        rest = iter(items)
        while wave := list(islice(rest, WAVE)):
            gathering = Gathering(wave, recipe, progress)
            for row in _pipeline(ray, gathering.jobs, setup, layout):
                yield from gathering.take(*row)
            for job in gathering.lost():
                for row in _alone(ray, job, setup, layout):
                    yield from gathering.take(*row)


def make_setup(ray: Any, recipe: Recipe, address: str) -> Setup:
    """What workers need; the bundle's files are put into Ray's store, unless they see them for certain.

    Published classifiers are not sent: every node has them in the same folders, or from the hub.
    """
    digest, version = scorer_of(recipe).model["digest"], library_versions()["mmsa-framework"]
    if not isinstance(recipe.bundle, Path):
        return Setup(recipe, digest, version, {})
    folder = recipe.bundle.absolute()
    inside = [] if address == LOCAL else [path for path in folder.rglob("*") if path.is_file()]
    files = {path.relative_to(folder).as_posix(): ray.put(path.read_bytes()) for path in inside}
    return Setup(replace(recipe, bundle=folder), digest, version, files)


def _pipeline(ray: Any, jobs: Sequence[Job], setup: Setup, layout: Layout) -> Iterator[tuple[int, int, bytes]]:
    """The rows that come out of both stages."""
    data = ray.data.from_items([{"data": pickle.dumps(job)} for job in jobs], override_num_blocks=len(jobs))
    data.context.enable_progress_bars = False
    data.context.max_errored_blocks = -1  # what is lost is found missing at the end
    data.context.target_max_block_size = 1  # bytes: every part is a block, passed on when it is there
    with warnings.catch_warnings():
        # Ray deprecates arguments that it has no word for, as those that bound its endless retries.
        warnings.simplefilter("ignore", DeprecationWarning)
        for stage, workers, device, cpus, gpus in (
            (Extracting, layout.extracting, "cpu", 1, layout.extracting_gpus),
            (Inferring, layout.inferring, "auto", 0, layout.inferring_gpus),
        ):
            data = data.map_batches(
                stage,
                fn_constructor_args=(setup, device),
                batch_size=1,
                batch_format="numpy",
                compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1 if cpus else 2),
                num_cpus=cpus,
                num_gpus=gpus or None,
                max_restarts=-1,
                max_task_retries=RETRIES,
            )
    try:
        # Without prefetching: with it, a row would be held back until the next one is there, which may take hours.
        for batch in data.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            for index, number, found in zip(batch["index"], batch["number"], batch["data"], strict=True):
                yield int(index), int(number), found
    except Exception as error:
        raise UsageError(
            f"the Ray cluster gave up ({' '.join(str(error).split())[:500]}). What was finished is kept: run the same "
            "again to go on. Every node needs mmsa-framework"
        ) from error


def _alone(ray: Any, job: Job, setup: Setup, layout: Layout) -> list[tuple[int, int, bytes]]:
    """One input in a process of its own, once; the process ends with it."""
    gpus = max(layout.extracting_gpus, layout.inferring_gpus)
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_calls=1, max_retries=0)(score_alone)
    try:
        rows: list[tuple[int, int, bytes]] = ray.get(task.remote(setup, job))
    except ray.exceptions.RayError as error:
        reason = (
            f"tried {RETRIES + 2} times, at last alone: the process that worked on it died each time, out of memory or "
            f"in a crash of a library ({' '.join(str(error).split())[:300]})"
        )
        return [(job.index, 0, pickle.dumps(Failure(reason)))]
    return rows


@dataclass
class _File:
    """What has come of one input so far; rows come in any order."""

    windows: dict[int, tuple[WindowScore, ...]] = field(default_factory=dict)
    ending: Ending | None = None
    parts: int = -1


class Gathering:
    """Puts the parts of each input together again."""

    def __init__(self, items: Sequence[Input], recipe: Recipe, progress: Callable[[Input, float], None] | None) -> None:
        self._items, self._recipe, self._progress = items, recipe, progress
        self._open: dict[int, _File] = {index: _File() for index in range(len(items))}
        self.jobs = [_job(index, item) for index, item in enumerate(items)]

    def lost(self) -> list[Job]:
        """Those of which something never came; what came of them is dropped."""
        self._open = {index: _File() for index in self._open}
        return [self.jobs[index] for index in self._open]

    def take(self, index: int, number: int, data: bytes) -> Iterator[tuple[Input, Score]]:
        """A row; the input's score, if that was its last."""
        if index not in self._open:
            return
        found, file, item = pickle.loads(data), self._open[index], self._items[index]  # noqa: S301 - from our workers
        if isinstance(found, Failure):
            path = self.jobs[index].item.path
            if found.fatal and (is_address(path) or Path(path).exists()):
                raise UsageError(found.reason)
            del self._open[index]
            yield item, Score(item.path, error=found.reason.replace(path, item.path))
            return
        if isinstance(found, Ending):
            file.ending, file.parts = found, number
        else:
            file.windows[number] = found.windows
            self._show(item, found)
        if file.ending is not None and len(file.windows) == file.parts:
            del self._open[index]
            yield item, self._join(item, file, file.ending)

    def _show(self, item: Input, found: Windows) -> None:
        if self._progress is not None and found.announced_seconds and not self._recipe.timeline.whole:
            self._progress(item, min(1.0, found.windows[-1].end_seconds / found.announced_seconds))

    def _join(self, item: Input, file: _File, ending: Ending) -> Score:
        windows = [window for number in sorted(file.windows) for window in file.windows[number]]
        try:
            return scorer_of(self._recipe).join(item.path, self._recipe.timeline, windows, ending, span=item.span)
        except UsageError as error:  # nothing in it that the model knows
            return Score(item.path, error=str(error))


def _job(index: int, item: Input) -> Job:
    if is_address(item.path):
        return Job(index, item, seen=False)
    path = Path(item.path).absolute()
    return Job(index, replace(item, path=str(path)), seen=path.exists())
