"""`benchmark`: heads × seeds × corpora, resumable, in processes, in one MLflow parent run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from extractors.cores import usable_cores
from mmsa.benchmarking.facts import corpus_facts, save_facts
from mmsa.benchmarking.store import (
    Result,
    find_run,
    identity_of,
    run_folder,
    settings_of,
    write_atomically,
)
from mmsa.benchmarking.work import Item, check_classical, close_shops, open_shop, shop_key, train_item
from mmsa.config import TrainConfig
from mmsa.errors import UsageError
from mmsa.recipe import HeadEntry, Recipe, load_recipe

if TYPE_CHECKING:
    from mmsa.benchmarking.report import Report
    from mmsa.tracking import Tracker

DEFAULT_OUTPUT = Path("benchmarks-out")
EXPERIMENT = "mmsa-benchmark"
"""MLflow experiment of benchmarks and of the trainings nested in them, unless the recipe names another."""

PARENT = "mlflow.json"
Key = tuple[str, str, int | None]
OnRun = Callable[[Item, Result | Exception, int, int], None]
"""Called after each training with what came of it, its number and the number of all."""


@dataclass(frozen=True)
class Outcome:
    """What became of a recipe.

    Attributes:
        report: tables and everything they were made of.
        tables: the folder with them.
        trained: how many trainings this call did.
        kept: how many were there already.
        failed: what went wrong, by training.
    """

    report: Report
    tables: Path
    trained: int
    kept: int
    failed: Mapping[str, str] = field(default_factory=dict)


def benchmark(
    recipe: Recipe | Path | str,
    *,
    output: Path | str | None = None,
    jobs: int | None = None,
    command: str | None = None,
    on_run: OnRun | None = None,
) -> Outcome:
    """Train what a recipe names and is not there yet, and write the leaderboard of everything.

    Args:
        recipe: a recipe, or its file.
        output: folder for predictions and tables; None is `benchmarks-out/<recipe>`.
        jobs: trainings at a time, each in a process with one thread; None is one per core.
        command: what the tables say they were made with.
        on_run: called after each training.

    Raises:
        UsageError: the recipe asks for what cannot be done, or no training succeeded.
    """
    from mmsa.benchmarking.publish import publish
    from mmsa.benchmarking.report import make_report
    from mmsa.many import run_many

    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    out = output_folder(recipe, output)
    items = plan(recipe, out)
    todo = [item for item in items if not (item.folder / "result.json").is_file()]
    with write_atomically(out / "recipe.yaml") as file:
        file.write(recipe.to_yaml())
    failed: dict[str, str] = {}
    with _parent_run(recipe, items[0].config, out) as parent:
        waiting = [replace(item, parent=parent.run_id) for item in todo]
        done = run_many(train_item, waiting, processes=jobs or usable_cores())
        for number, (item, result) in enumerate(done, start=1):
            if isinstance(result, Exception):
                failed[repr(item)] = " ".join(f"{type(result).__name__}: {result}".split())
            if on_run is not None:
                on_run(item, result, number, len(todo))
        report = make_report(recipe, out, {item.key: item.folder for item in items}, command=command, failed=failed)
        tables = publish(report, out)
        parent.artifacts(tables, "tables")
        parent.metrics(report.flat())
    return Outcome(report, tables, len(todo) - len(failed), len(items) - len(todo), failed)


def report_only(
    recipe: Recipe | Path | str, *, output: Path | str | None = None, command: str | None = None
) -> Outcome:
    """Compute the tables again from the predictions that are kept; neither corpus nor features are needed.

    Args:
        recipe: a recipe, or its file; metrics, slices, reference and clusters may be others than when it was trained.
        output: the folder that `benchmark` wrote.
        command: what the tables say they were made with.

    Raises:
        UsageError: nothing is kept there for this recipe.
    """
    from mmsa.benchmarking.publish import publish
    from mmsa.benchmarking.report import make_report

    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    out = output_folder(recipe, output)
    folders: dict[Key, Path] = {}
    for entry, config, seed in trainings(recipe):
        found = find_run(out, entry.slug, config.corpus, seed, settings_of(entry, config))
        if found is not None:
            folders[entry.name, config.corpus, seed] = found
    if not folders:
        raise UsageError(f"{out} holds no predictions of this recipe: run it without --report-only first")
    report = make_report(recipe, out, folders, command=command, failed={})
    return Outcome(report, publish(report, out), 0, len(folders))


def output_folder(recipe: Recipe, output: Path | str | None) -> Path:
    """Where a recipe's predictions and tables go."""
    return DEFAULT_OUTPUT / recipe.name if output is None else Path(output)


def trainings(recipe: Recipe) -> Iterator[tuple[HeadEntry, TrainConfig, int | None]]:
    """Every row, settings and seed; None for a head that has none."""
    for entry in recipe.heads:
        for corpus in recipe.corpora_of(entry):
            for seed in (None,) if entry.classical else recipe.seeds:
                config = recipe.config(entry, seed=seed, corpus=corpus)
                # A training that is killed is done anew: each is short, and checkpoints would be many.
                kept = {"experiment": config.experiment or EXPERIMENT, "checkpoints": False}
                yield entry, config.model_copy(update=kept), seed


def plan(recipe: Recipe, out: Path) -> list[Item]:
    """Every training of a recipe; features are extracted and every head is built once, before anything is trained.

    Raises:
        UsageError: a corpus, feature or head that cannot be had.
    """
    close_shops()
    items: list[Item] = []
    built: set[tuple[str, str]] = set()
    for entry, config, seed in trainings(recipe):
        try:
            if (entry.name, shop_key(config)) not in built:
                _check_options(entry)
            shop = open_shop(config)
            if (entry.name, shop_key(config)) not in built:
                _check_size(entry, config)
                save_facts(out, config.corpus, corpus_facts(shop.corpus))
                built.add((entry.name, shop_key(config)))
        except UsageError as error:
            raise UsageError(f"row {entry.name!r}: {error}") from None
        fingerprints = {key: spec.fingerprint for key, spec in shop.specs.items()}
        identity, settings = identity_of(shop.corpus, fingerprints), settings_of(entry, config)
        place = (out, entry.slug, config.corpus, seed, settings, identity)
        items.append(Item(entry, config, seed, identity, find_run(*place) or run_folder(*place)))
    # One corpus after the other, so that a worker opens each once.
    order = list(dict.fromkeys(shop_key(item.config) for item in items))
    return sorted(items, key=lambda item: order.index(shop_key(item.config)))


def _check_options(entry: HeadEntry) -> None:
    from mmsa.model import check_options

    if entry.classical:
        check_classical(entry)
    else:
        check_options(entry.head, entry.options)


def _check_size(entry: HeadEntry, config: TrainConfig) -> None:
    from mmsa.model import build_head
    from mmsa.workshop import model_config

    if not entry.classical:
        build_head(model_config(config, open_shop(config)))
    elif config.encoders:
        raise UsageError(
            f"row {entry.name!r}: a classical head makes nothing of what the encoder of {', '.join(config.encoders)} "
            "reads: give it extracted features, such as text.transformers"
        )


@contextmanager
def _parent_run(recipe: Recipe, config: TrainConfig, out: Path) -> Iterator[Tracker]:
    """The MLflow run of the benchmark: the one of an earlier call on the same folder where it is still there."""
    from mmsa.tracking import open_run, tracking_uri

    known = out / PARENT
    kept = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}
    if kept.get("store") == tracking_uri() and _is_there(str(kept["run"])):
        with _continued(str(kept["run"])) as run:
            yield run
        return
    with open_run(str(config.experiment), recipe.name, {"mmsa.recipe": recipe.name}, None, "benchmark") as run:
        with write_atomically(known) as file:
            json.dump({"store": tracking_uri(), "run": run.run_id}, file)
        run.params(_parameters(recipe))
        yield run


def _is_there(run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    from mmsa.tracking import client

    try:
        return bool(client().get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


@contextmanager
def _continued(run_id: str) -> Iterator[Tracker]:
    """A run that was ended, open again; it ends as a new one would."""
    from mmsa.tracking import Tracker, client, ending

    store = client()
    experiment_id = store.get_run(run_id).info.experiment_id
    store.update_run(run_id, status="RUNNING")
    with ending(store, run_id):
        yield Tracker(store, run_id, experiment_id)


def _parameters(recipe: Recipe) -> dict[str, object]:
    listed: dict[str, Sequence[object]] = {
        "heads": [entry.name for entry in recipe.heads],
        "seeds": recipe.seeds,
        "corpora": recipe.corpus_names,
    }
    return {key: ", ".join(map(str, value)) for key, value in listed.items()} | {"reference": recipe.reference}
