"""Scoring many inputs: in processes, with a row for each, whatever happens to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsa.errors import UsageError
from mmsa.many import WorkerLostError, run_many
from mmsa.scoring.inputs import Input
from mmsa.scoring.remote import MAX_MEGABYTES, fetched, is_address
from mmsa.scoring.results import Score
from mmsa.scoring.scorer import Progress, Scorer, load_scorer
from mmsa.scoring.store import ResultFile, result_key
from mmsa.scoring.timeline import Timeline
from mmsa.sidecars import SIDECARS
from mmsa.words import WordOptions

if TYPE_CHECKING:
    from mmsa.scoring.ensemble import Ensemble


@dataclass(frozen=True)
class Recipe:
    """How every input is scored; it travels to the worker processes.

    Attributes:
        bundle: the model's folder, or the published classifiers that are used instead.
        timeline: what stretches of a file are scored.
        trust_extractors: see `Scorer`.
        max_fetch_mb: largest file that is fetched from an address.
        words: what is done for files without a transcript, and for transcripts without times.
        device: where frames are decoded and extractors compute; see `load_scorer`. No number depends on it beyond
            rounding.
    """

    bundle: Path | Ensemble
    timeline: Timeline
    trust_extractors: bool = False
    max_fetch_mb: float = MAX_MEGABYTES
    words: WordOptions = field(default_factory=WordOptions)
    device: str = "auto"

    @property
    def options(self) -> dict[str, Any]:
        """What the numbers depend on beside the files and the model."""
        return scorer_of(self).options(self.timeline)


@cache
def scorer_of(recipe: Recipe) -> Scorer:
    """The scorer of a recipe, loaded once in each process."""
    words = recipe.words
    return load_scorer(
        recipe.bundle,
        trust_extractors=recipe.trust_extractors,
        transcribe=words.transcribe,
        language=words.language,
        align=words.align,
        save_transcripts=words.save,
        device=recipe.device,
    )


def open_items(
    items: Sequence[Input], recipe: Recipe, file: ResultFile | None = None, *, retry_failed: bool = False
) -> list[tuple[Input, str]]:
    """The inputs that are to be scored, each with the key of its row.

    Args:
        items: all inputs.
        recipe: how they are scored.
        file: open; inputs whose rows are in it are left out.
        retry_failed: but not those whose rows tell of an error.
    """
    digest, options = scorer_of(recipe).model["digest"], recipe.options
    known = {} if file is None else file.errors
    keyed = [(item, result_key(item, digest, options)) for item in items]
    return [(item, key) for item, key in keyed if key not in known or (retry_failed and known[key])]


def score_batch(
    items: Sequence[tuple[Input, str]],
    recipe: Recipe,
    *,
    jobs: int | None = None,
    ray: str | None = None,
    file: ResultFile | None = None,
    progress: Callable[[Input, float], None] | None = None,
) -> Iterator[tuple[Input, Score]]:
    """Score inputs; each comes back once, in order of completion, and is in the file by then.

    An input that fails in any way gives a `Score` with its `error`. So does one that ends the worker process it is in
    (out of memory, a crash in a codec), after a second try on its own; the others go on. With `jobs=1` there is no
    worker and such an end is the program's: what was finished is in the file.

    Args:
        items: from `open_items`.
        recipe: how they are scored.
        jobs: processes; each has its own copy of the model and computes with one thread. None is one, or with `ray`
            as many as the cluster has CPUs.
        ray: address of a Ray cluster that scores instead, see `mmsa.scoring.ray_batch`.
        file: open; rows are appended to it.
        progress: called with an input and how far it is, in [0, 1]; within one not with several `jobs`.
    """
    keys = {item.identity: key for item, key in items}
    todo = [item for item, _ in items]
    if ray is not None and todo:
        from mmsa.scoring.ray_batch import score_on_ray

        scores = score_on_ray(todo, recipe, ray, jobs=jobs, progress=progress)
    else:
        scores = _score_all(todo, recipe, jobs or 1, progress)
    for item, score in scores:
        named = finish(score, item, keys[item.identity], recipe)
        if file is not None:
            file.append(named)
        yield item, named


def finish(score: Score, item: Input, key: str, recipe: Recipe) -> Score:
    """The result as it is written: with all that is known of its input, and what it was made with."""
    return replace(
        score,
        path=item.path,
        id=item.id,
        start_seconds=item.start_seconds,
        end_seconds=item.end_seconds,
        extra=dict(item.extra),
        model=scorer_of(recipe).model,
        options=recipe.options,
        key=key,
    )


def _score_all(
    items: Sequence[Input], recipe: Recipe, jobs: int, progress: Callable[[Input, float], None] | None
) -> Iterator[tuple[Input, Score]]:
    if jobs <= 1:
        for item in items:
            yield item, score_input(recipe, item, _within(item, progress))
        return
    lost = []
    for item, result in run_many(partial(score_input, recipe), items, processes=jobs, isolated=True):
        if isinstance(result, WorkerLostError):
            lost.append(item)  # perhaps for want of memory beside the others: once more, alone
        else:
            yield item, _as_score(item, result)
    for item, result in run_many(partial(score_input, recipe), lost, processes=1, isolated=True):
        yield item, _as_score(item, result)


def _as_score(item: Input, result: Score | Exception) -> Score:
    if isinstance(result, WorkerLostError):
        return Score(item.path, error=f"tried twice: {result}")
    return Score(item.path, error=told(result)) if isinstance(result, Exception) else result


def _within(item: Input, progress: Callable[[Input, float], None] | None) -> Progress | None:
    if progress is None:
        return None

    def tell(seconds: float, announced: float | None) -> None:
        if announced:
            progress(item, min(1.0, seconds / announced))

    return tell


def score_input(recipe: Recipe, item: Input, progress: Progress | None = None) -> Score:
    """Score one input; whatever it raises becomes a `Score` with its `error`."""
    try:
        if item.error is not None:
            raise UsageError(item.error)
        with at_hand(item, recipe) as path:
            found = scorer_of(recipe).score_clip(
                path, recipe.timeline, text=item.text, span=item.span, progress=progress
            )
        return replace(found, path=item.path)
    except Exception as error:  # noqa: BLE001 - one bad input must not end the others
        return Score(item.path, error=told(error))


@contextmanager
def at_hand(item: Input, recipe: Recipe) -> Iterator[Path]:
    """The input's file, fetched where it is far away; what is raised about it names the address."""
    if not is_address(item.path):
        yield Path(item.path)
        return
    with fetched(item.path, SIDECARS, recipe.max_fetch_mb) as local:
        try:
            yield local
        except Exception as error:
            raise UsageError(told(error).replace(str(local), item.path)) from error


def told(error: Any) -> str:
    """What an error row says of an exception."""
    import extractors as ex

    if isinstance(error, UsageError | ex.MediaError):
        return str(error)
    return f"{type(error).__name__}: {error}"
