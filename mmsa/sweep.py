"""`sweep`: search a head's settings on the validation split, in a study that can be stopped and gone on with."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsa.benchmarking.store import INDIFFERENT, write_atomically
from mmsa.errors import UsageError, unknown
from mmsa.recipe import HeadEntry, Recipe
from mmsa.search import check_head_options, decode_choice, plan_search, starting_point, with_settings
from mmsa.selection import Selection
from mmsa.study import (
    Plan,
    Trial,
    best_of,
    end_lost_runs,
    finished_trials,
    load_study,
    open_study,
    open_trial,
    own_storage,
    require_optuna,
    sweep_run,
)
from mmsa.tracking import STORE, client

if TYPE_CHECKING:
    import optuna

    from mmsa.workshop import Workshop

TRIALS = 40
"""How many settings are tried where a recipe does not say."""


@dataclass(frozen=True)
class SweepResult:
    """What a sweep of one row of a recipe found.

    Attributes:
        row: its name.
        head: short name of the head.
        corpus: that was tuned on.
        study: the study's name.
        parent: id of the MLflow run that the trials are nested in.
        measure: `"loss"` or `"<task>.<metric>"`, on the validation split.
        trials: all that are finished, in order.
        best: the one to use.
        start: the recipe's own settings, as far as they lie in the space: what the first trial tries.
        first: their value, where they are all of the space and were trained to the end; else None.
        config: file for `mmsa train --config`.
        recipe: file for `mmsa benchmark`, with all rows of this sweep.
        notes: what a reader must know.
    """

    row: str
    head: str
    corpus: str
    study: str
    parent: str
    measure: str
    trials: tuple[Trial, ...]
    best: Trial
    start: Mapping[str, Any]
    first: float | None
    config: Path
    recipe: Path
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain = ("row", "head", "corpus", "study", "parent", "measure", "first")
        return {
            **{key: getattr(self, key) for key in plain},
            "start": dict(self.start),
            "best": vars(self.best),
            "trials": [vars(trial) for trial in self.trials],
            "config": str(self.config),
            "recipe": str(self.recipe),
            "notes": list(self.notes),
        }


SAMPLED_CLIPS = 1000
"""So many clips' features name a study: enough to notice another extraction."""

OnTrial = Callable[[Plan, Trial], None]


def sweep(
    recipe: Recipe,
    *,
    rows: Sequence[str] | None = None,
    trials: int | None = None,
    jobs: int = 1,
    storage: str | None = None,
    seed: int = 0,
    output: Path | str | None = None,
    on_trial: OnTrial | None = None,
) -> list[SweepResult]:
    """Search the settings of a recipe's heads, each in a study of its own.

    A study that is there already is gone on with until it has `trials` trials; several processes may work on it.
    The test split is neither read nor scored.

    Args:
        recipe: heads, settings and, under `search`, what is searched.
        rows: names of the heads to tune; None tunes all that have settings to search.
        trials: per head; None is the recipe's number.
        jobs: processes that try settings at the same time.
        storage: URL of the studies' database; None is an SQLite file in `mlruns/`.
        seed: of the sampler.
        output: folder for the found settings; None is `mlruns/sweeps/<recipe>`.
        on_trial: called after each trial.

    Raises:
        UsageError: what was asked for cannot be done, or every trial failed.
    """
    require_optuna()
    entries = _entries(recipe, rows)
    if recipe.search is not None:
        check_head_options(recipe.search, [entry.head for entry in entries])
    if trials is not None and trials < 1:
        raise UsageError(f"trials must be at least 1, not {trials}")
    planned = [_plan(recipe, entry, trials, seed, storage or own_storage()) for entry in entries]
    folder = Path(output) if output is not None else STORE / "sweeps" / recipe.name
    found = []
    tuned = recipe
    for plan, notes in planned:
        done, best, finished = _run(plan, recipe.name, jobs, on_trial)
        tuned = with_found(tuned, plan.row, best.settings)
        found.append(_finish(done, best, finished, (*notes, *_fold_note(recipe)), tuned, folder))
    return found


def _entries(recipe: Recipe, rows: Sequence[str] | None) -> list[HeadEntry]:
    by_name = {entry.name: entry for entry in recipe.heads}
    for name in rows or ():
        if name not in by_name:
            raise unknown("row", name, by_name)
        if by_name[name].classical:
            raise UsageError(f"row {name!r} is fitted in one step and chooses its own settings: nothing to sweep")
    chosen = [entry for entry in recipe.heads if not entry.classical and (rows is None or entry.name in rows)]
    if not chosen:
        raise UsageError("the recipe has no head with settings to search: name a fusion head under heads")
    return chosen


def _plan(
    recipe: Recipe, entry: HeadEntry, trials: int | None, seed: int, storage: str
) -> tuple[Plan, tuple[str, ...]]:
    config = recipe.config(entry)
    search, absent = plan_search(config, recipe.search)
    wanted = trials or (TRIALS if recipe.search is None else recipe.search.trials)
    named = recipe.search is not None  # of the usual space, what a head lacks is no news
    notes = (f"{entry.head} takes no {', '.join(absent)}: not searched",) if absent and named else ()
    return Plan(entry.name, config, search, wanted, seed, storage), notes


def _fold_note(recipe: Recipe) -> tuple[str, ...]:
    if len(recipe.corpora) < 2:
        return ()
    return (
        f"tuned on {recipe.corpora[0]} alone: where other corpora of this recipe are folds of it, its validation clips "
        "are test clips there, and figures on these folds with the found settings are not clean",
    )


def _run(plan: Plan, recipe: str, jobs: int, on_trial: OnTrial | None) -> tuple[Plan, Trial, tuple[Trial, ...]]:
    """Open the study and its MLflow run, and try settings until there are enough."""
    from mmsa.workshop import open_workshop

    shop = open_workshop(plan.config)
    check_heads(plan, shop)
    Selection(plan.search.metric, shop.tasks)
    plan = _name(plan, recipe, shop)
    study, plan = open_study(plan, recipe)
    with _watching(plan, study, on_trial), sweep_run(plan.parent) as parent:
        _work_all(plan, shop, jobs)
        finished = finished_trials(study, plan.search)
        end_lost_runs(study)
        best = best_of(study, finished)
        if best is None:
            reasons = "; ".join(dict.fromkeys(trial.reason for trial in finished if trial.reason))
            raise UsageError(f"no trial of {plan.row} could be trained to its end: {reasons or 'all were stopped'}")
        parent.metrics({f"best/{plan.search.metric}": best.value or 0.0, "best_trial": best.number})
        parent.metrics({"trials": len(finished), "pruned": sum(trial.value is None for trial in finished)})
        parent.tags({f"best.{key}": str(value) for key, value in best.settings.items()})
    return plan, best, finished


def check_heads(plan: Plan, shop: Workshop) -> None:
    """Build the head at both ends of every range, at the corpus's real sizes.

    Raises:
        UsageError: the head refuses a value.
    """
    from mmsa.model import build_head
    from mmsa.search import ends
    from mmsa.workshop import model_config

    for key, parameter in plan.search.parameters.items():
        for value in ends(parameter) if key.startswith("head.") or key == "grid_steps" else ():
            try:
                build_head(model_config(with_settings(plan.config, {key: value}), shop))
            except UsageError as error:
                raise UsageError(f"search.parameters.{key}: {value!r} cannot be built: {error}") from None


def _name(plan: Plan, recipe: str, shop: Workshop) -> Plan:
    """Name the study after all that decides its trials: settings, space and the data they see."""
    decides = {
        "config": plan.config.model_dump(mode="json", exclude=set(INDIFFERENT)),
        "search": plan.search.model_dump(mode="json", exclude={"trials"}),
        "seed": plan.seed,
        "data": _seen(shop),
    }
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]
    experiment = plan.config.experiment or f"mmsa-{shop.corpus.name}"
    return replace(plan, study=f"{recipe}/{plan.row}/{digest}", experiment=experiment)


def _seen(shop: Workshop) -> str:
    """A digest of the labels of the training and validation split, and of the features of clips evenly spread."""
    rows = [row for row, clip in enumerate(shop.corpus.clips) if clip.split != "test"]
    digest = hashlib.sha256()
    for row in rows:
        clip = shop.corpus.clips[row]
        digest.update(json.dumps([clip.id, clip.split, sorted(clip.labels.items())]).encode())
    for key, table in shop.tables.items():
        digest.update(f"{key} {shop.specs[key].fingerprint}".encode())
        for row in rows[:: -(-len(rows) // SAMPLED_CLIPS)]:
            digest.update(table.values[table.offsets[row] : table.offsets[row + 1]].tobytes())
            digest.update(b"|")
    return digest.hexdigest()


def _work_all(plan: Plan, shop: Workshop, jobs: int) -> None:
    """Try settings in this process, or in several."""
    from mmsa.many import run_many

    if jobs == 1:
        work(plan, shop)
        return
    errors = [result for _, result in run_many(partial(_work_in_process, plan), range(jobs), processes=jobs) if result]
    if errors:
        raise errors[0]


def _work_in_process(plan: Plan, number: int) -> None:
    from mmsa.workshop import open_workshop

    del number  # workers find out for themselves what is left to do
    require_optuna()
    work(plan, open_workshop(plan.config))


def work(plan: Plan, shop: Workshop) -> None:
    """Add trials to the study until it has enough, with one thread, so that the number of workers changes nothing."""
    import torch

    from mmsa.tuning import tune
    from mmsa.workshop import choose_device

    device = choose_device(plan.config.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tune(
            plan.config,
            shop.split("train", device, resident_mb=plan.config.resident_mb),
            shop.split("valid", device),
            shop.tasks,
            plan.search,
            study=load_study(plan),
            trials=plan.trials,
            seed=plan.seed,
            device=device,
            open_trial=partial(open_trial, plan),
        )
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _watching(plan: Plan, study: optuna.Study, on_trial: OnTrial | None) -> Iterator[None]:
    """Tell of trials as they finish, whichever process tried them."""
    if on_trial is None:
        yield
        return
    over = threading.Event()
    told = {trial.number for trial in finished_trials(study, plan.search)}

    def tell() -> None:
        for trial in finished_trials(study, plan.search):
            if trial.number not in told:
                told.add(trial.number)
                on_trial(plan, trial)

    def watch() -> None:
        while not over.wait(0.5):
            tell()

    watcher = threading.Thread(target=watch, name="sweep-watcher", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        tell()


def with_found(recipe: Recipe, row: str, settings: Mapping[str, Any]) -> Recipe:
    """A recipe in which one row has the settings that were found for it."""
    options = {key.partition(".")[2]: value for key, value in settings.items() if key.startswith("head.")}
    train = {key: value for key, value in settings.items() if not key.startswith("head.")}
    heads = tuple(
        entry.model_copy(update={"options": {**entry.options, **options}, "train": {**entry.train, **train}})
        if entry.name == row
        else entry
        for entry in recipe.heads
    )
    return recipe.model_copy(update={"heads": heads})


def _finish(
    plan: Plan, best: Trial, finished: tuple[Trial, ...], notes: tuple[str, ...], tuned: Recipe, folder: Path
) -> SweepResult:
    """Write the found settings, here and beside the sweep's MLflow run."""
    import yaml

    config = with_settings(plan.config, best.settings)
    settings = config.model_dump(mode="json", exclude_defaults=True)
    said = (
        f"# Found by mmsa sweep on the validation split of {plan.config.corpus}: trial {best.number} of "
        f"{len(finished)}, {plan.search.metric} {best.value:.6g}.\n"
    )
    slug = next(entry.slug for entry in tuned.heads if entry.name == plan.row)
    named = folder / f"best_{slug}.yaml", folder / "best.yaml"
    texts = yaml.safe_dump({"fusion": config.fusion, **settings}, sort_keys=False, allow_unicode=True), tuned.to_yaml()
    for path, text in zip(named, texts, strict=True):
        with write_atomically(path) as file:
            file.write(said + text)
        client().log_artifact(plan.parent, str(path))
    own = _start(plan)
    first = next((trial.value for trial in finished if trial.settings == own), None)
    return SweepResult(
        row=plan.row,
        head=plan.config.fusion,
        corpus=plan.config.corpus,
        study=plan.study,
        parent=plan.parent,
        measure=plan.search.metric,
        trials=finished,
        best=best,
        start=own,
        first=first,
        config=named[0],
        recipe=named[1],
        notes=notes,
    )


def _start(plan: Plan) -> dict[str, Any]:
    """The recipe's own settings, as far as they lie in the space."""
    return {
        key: decode_choice(plan.search.parameters[key], value)
        for key, value in starting_point(plan.config, plan.search).items()
    }
