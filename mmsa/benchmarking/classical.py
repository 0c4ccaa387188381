"""The classical baseline: functionals of every modality, put side by side, and a support vector machine.

Early fusion as in Castro et al., "Towards Multimodal Sarcasm Detection (An _Obviously_ Perfect Paper)", ACL 2019,
section 5: features are averaged over a clip and concatenated. Here the validation split chooses whether the standard
deviation over time joins the mean, and kernel, cost, width and class weights. Nothing in it is random where the
training split is small, and what is random otherwise (Nystroem's landmarks) has a fixed seed: it is run once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsa.errors import UsageError
from mmsa.metrics import compute_metrics, direction, headline
from mmsa.tasks import MultiLabel, Regression, Task

if TYPE_CHECKING:
    from mmsa.data import SplitData

Array = NDArray[np.float64]

EXACT_CLIPS = 4000
"""Most training clips for exact kernels (a 128 MB matrix); beyond, linear machines are solved in the primal and the
Gaussian kernel is approximated by `LANDMARKS` landmarks."""

LANDMARKS = 500
FUNCTIONALS = ("mean", "mean+std")
KERNELS = ("linear", "rbf")
COSTS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
WIDTHS = (0.25, 0.5, 1.0)
EPSILON = 0.1
"""Of the regression, in standard deviations of the training labels."""

PRIMAL_STEPS = 3000


@dataclass(frozen=True)
class Choice:
    """What is tried, and what validation then picks.

    Attributes:
        functionals: `"mean"` or `"mean+std"`.
        kernel: `"linear"` or `"rbf"`.
        cost: how much errors count.
        width: of the Gaussian kernel, in units of 1 / number of features; 0 for the linear one.
        balanced: whether classes weigh alike however many clips they have; always False in regression.
    """

    functionals: str
    kernel: str
    cost: float
    width: float
    balanced: bool


Decide = Callable[[Array], Array]
"""Scaled functionals `(N, F)` → outputs `(N, task.output_dim)`."""


@dataclass(frozen=True, eq=False)
class Machine:
    """A fitted machine for one task.

    Attributes:
        task: what it predicts.
        decide: its outputs: a score, or decision values (the largest one wins) that are no probabilities.
        choice: what validation picked.
        parameters: numbers that were learned.
    """

    task: Task
    decide: Decide
    choice: Choice
    parameters: int


@dataclass(frozen=True, eq=False)
class Classical:
    """Scaler and machines.

    Attributes:
        columns: of each modality in the functionals.
        mean: of the training split's functionals.
        scale: their standard deviation; 1 where it is 0.
        machines: one per task.
        train_seconds: of everything but reading features.
    """

    columns: Mapping[str, slice]
    mean: Array
    scale: Array
    machines: tuple[Machine, ...]
    train_seconds: float

    def predict(self, functionals: Array, modalities: Sequence[str] | None = None) -> dict[str, NDArray[np.float32]]:
        """Outputs per task `(N, output_dim)`; modalities that are left out are missing, as NaN is."""
        if modalities is not None:
            functionals = functionals.copy()
            for key in set(self.columns) - set(modalities):
                functionals[:, self.columns[key]] = np.nan
        scaled = _scaled(functionals, self.mean, self.scale)
        return {machine.task.name: machine.decide(scaled).astype(np.float32) for machine in self.machines}


def read_functionals(data: SplitData) -> tuple[Array, dict[str, slice]]:
    """Mean and standard deviation over time of each modality of each clip, side by side.

    Returns:
        `(N, F)`, NaN where a clip lacks a modality, and the columns of each modality.
    """
    columns: dict[str, slice] = {}
    blocks: dict[str, list[Array]] = {}
    for batch in data.batches(64):
        for key, sequence in batch.inputs.items():
            values, mask = sequence.values.numpy(), sequence.mask.numpy()
            blocks.setdefault(key, []).append(_statistics(values, mask))
    start = 0
    for key in sorted(blocks):
        width = blocks[key][0].shape[1]
        columns[key] = slice(start, start + width)
        start += width
    return np.concatenate([np.concatenate(blocks[key]) for key in sorted(blocks)], axis=1), columns


def _statistics(values: NDArray[np.floating[Any]], mask: NDArray[np.bool_]) -> Array:
    rows = [_of_clip(own[real].astype(np.float64)) for own, real in zip(values, mask, strict=True)]
    return np.stack(rows)


def _of_clip(steps: Array) -> Array:
    if not len(steps):
        return np.full(2 * steps.shape[1], np.nan)
    return np.concatenate([steps.mean(axis=0), steps.std(axis=0)])


def fit_classical(
    train: SplitData,
    valid: SplitData,
    tasks: Sequence[Task],
    *,
    functionals: Sequence[str] = FUNCTIONALS,
    kernels: Sequence[str] = KERNELS,
    costs: Sequence[float] = COSTS,
    widths: Sequence[float] = WIDTHS,
) -> Classical:
    """Fit one machine per task; the test split is no argument.

    Args:
        train: the split to learn from.
        valid: the split to choose on, by each task's headline metric.
        tasks: what to predict.
        functionals: to try.
        kernels: to try.
        costs: to try.
        widths: of the Gaussian kernel, to try.

    Raises:
        UsageError: nothing to try, an unknown kernel, or a number that is not above 0.
    """
    _check(functionals, kernels, costs, widths)
    known, columns = read_functionals(train)
    unseen, _ = read_functionals(valid)
    start = time.perf_counter()
    mean, scale = _fit_scaler(known)
    known, unseen = _scaled(known, mean, scale), _scaled(unseen, mean, scale)
    grid = [("linear", cost, 0.0) for cost in costs if "linear" in kernels]
    grid += [("rbf", cost, width) for width, cost in product(widths, costs) if "rbf" in kernels]
    tried = [Choice(kind, *rest, False) for kind, rest in product(functionals, grid)]
    means = np.concatenate([np.arange(own.start, (own.start + own.stop) // 2) for own in columns.values()])
    picks = {"mean": means, "mean+std": np.arange(known.shape[1])}
    machines = tuple(
        _best(task, tried, picks, (known, train.labels[task.name]), (unseen, valid.labels[task.name])) for task in tasks
    )
    return Classical(columns, mean, scale, machines, time.perf_counter() - start)


def _check(functionals: Sequence[str], kernels: Sequence[str], costs: Sequence[float], widths: Sequence[float]) -> None:
    for name, given, known in (("functionals", functionals, FUNCTIONALS), ("kernels", kernels, KERNELS)):
        if not given or not set(given) <= set(known):
            raise UsageError(f"{name} of the head 'svm' must be among {', '.join(known)}, not {list(given)}")
    for name, values in (("costs", costs), ("widths", widths)):
        if not values or not all(isinstance(v, int | float) and v > 0 for v in values):
            raise UsageError(f"{name} of the head 'svm' must be numbers above 0, not {list(values)}")


def _fit_scaler(values: Array) -> tuple[Array, Array]:
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / count
    scale = np.sqrt((np.where(known, values - mean, 0.0) ** 2).sum(axis=0) / count)
    return mean, np.where(scale > 1e-9 * (1 + abs(mean)), scale, 1.0)


def _scaled(values: Array, mean: Array, scale: Array) -> Array:
    """Standardised; what is missing lies at the training split's mean."""
    return np.nan_to_num((values - mean) / scale, nan=0.0).clip(-10, 10)


Labelled = tuple[Array, NDArray[np.floating[Any]]]


Picks = Mapping[str, NDArray[np.int64]]


def _best(task: Task, tried: Sequence[Choice], picks: Picks, train: Labelled, valid: Labelled) -> Machine:
    """The machine whose headline metric on the validation split is best; the first of equals."""
    name, sign = headline(task), -1 if direction(headline(task)) == "min" else 1
    best: Machine | None = None
    highest = -np.inf
    for machine in _machines(task, tried, picks, *train):
        value = sign * compute_metrics(task, machine.decide(valid[0]), valid[1]).get(name, -np.inf)
        if best is None or value > highest:
            best, highest = machine, value
    if best is None:
        raise UsageError(f"no training clip has a label for {task.name}")
    return best


def _machines(
    task: Task, tried: Sequence[Choice], picks: Picks, values: Array, labels: NDArray[np.floating[Any]]
) -> Iterator[Machine]:
    known = ~np.isnan(labels).reshape(len(labels), -1).any(axis=1)
    values, labels = values[known], labels[known]
    if not len(labels):
        return
    for kind, choices in groupby(tried, key=lambda choice: choice.functionals):
        pick = picks[kind]
        spaces = _Spaces(values[:, pick])
        for choice in choices:
            for balanced in (False,) if isinstance(task, Regression) else (False, True):
                own = replace(choice, balanced=balanced)
                decide, parameters = _fit(task, own, spaces, labels)
                yield Machine(task, partial(_decide_on, pick, decide), own, parameters)


def _decide_on(pick: NDArray[np.int64], decide: Decide, values: Array) -> Array:
    return decide(values[:, pick])


class _Spaces:
    """What machines on the same clips share: kernel matrices where clips are few, else mapped features."""

    def __init__(self, values: Array) -> None:
        self.values = values
        self.exact = len(values) <= EXACT_CLIPS
        self._kept: tuple[Any, tuple[Array, Callable[[Array], Array]]] | None = None

    def get(self, choice: Choice) -> tuple[Array, Callable[[Array], Array]]:
        """What to fit on, and how other clips are brought there."""
        key = (choice.kernel, choice.width)
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, self._exact(choice) if self.exact else self._mapped(choice))
        return self._kept[1]

    def _exact(self, choice: Choice) -> tuple[Array, Callable[[Array], Array]]:
        from sklearn.metrics.pairwise import linear_kernel, rbf_kernel

        features = self.values.shape[1]

        def kernel(other: Array) -> Array:
            if choice.kernel == "linear":
                # Per feature, so that one range of costs suits any number of them.
                return np.asarray(linear_kernel(other, self.values) / features)
            return np.asarray(rbf_kernel(other, self.values, gamma=choice.width / features))

        return kernel(self.values), kernel

    def _mapped(self, choice: Choice) -> tuple[Array, Callable[[Array], Array]]:
        if choice.kernel == "linear":
            scale = self.values.shape[1] ** -0.5
            return self.values * scale, lambda other: other * scale
        from sklearn.kernel_approximation import Nystroem

        gamma = choice.width / self.values.shape[1]
        count = min(LANDMARKS, len(self.values))
        landmarks = Nystroem(gamma=gamma, n_components=count, random_state=0).fit(self.values)
        return landmarks.transform(self.values), landmarks.transform


def _fit(task: Task, choice: Choice, spaces: _Spaces, labels: NDArray[np.floating[Any]]) -> tuple[Decide, int]:
    where, bring = spaces.get(choice)
    if isinstance(task, Regression):
        score, parameters = _regression(choice, spaces, where, labels.astype(np.float64))
        return lambda values: score(bring(values)).clip(task.low, task.high)[:, None], parameters
    if isinstance(task, MultiLabel):
        fitted = [_classes(choice, spaces, where, labels[:, i].astype(int), 2) for i in range(task.output_dim)]
        decides = [decide for decide, _ in fitted]

        def each(values: Array) -> Array:
            brought = bring(values)
            return np.stack([decide(brought) @ np.array([-1.0, 1.0]) for decide in decides], axis=1)

        return each, sum(count for _, count in fitted)
    decide, parameters = _classes(choice, spaces, where, labels.astype(int), task.output_dim)
    return lambda values: decide(bring(values)), parameters


def _regression(choice: Choice, spaces: _Spaces, where: Array, labels: Array) -> tuple[Callable[[Array], Array], int]:
    from sklearn.svm import SVR, LinearSVR

    middle, spread = labels.mean(), labels.std() or 1.0
    target = (labels - middle) / spread
    if spaces.exact:
        machine = SVR(kernel="precomputed", C=choice.cost, epsilon=EPSILON).fit(where, target)
        count = _kernel_parameters(choice, machine, spaces)
    else:
        # The squared loss has a primal form that takes seconds where the dual takes minutes.
        machine = LinearSVR(C=choice.cost, epsilon=EPSILON, loss="squared_epsilon_insensitive", dual=False)
        machine.set_params(max_iter=PRIMAL_STEPS).fit(where, target)
        count = machine.coef_.size + 1
    return lambda values: machine.predict(values) * spread + middle, count


def _classes(
    choice: Choice, spaces: _Spaces, where: Array, labels: NDArray[np.int_], classes: int
) -> tuple[Callable[[Array], Array], int]:
    """Decision values `(N, classes)`; a class that no training clip has lies below all others."""
    from sklearn.svm import SVC, LinearSVC

    present = np.unique(labels)
    if len(present) == 1:
        constant = np.full(classes, -1.0)
        constant[present[0]] = 1.0
        return lambda values: np.tile(constant, (len(values), 1)), 0
    weights = "balanced" if choice.balanced else None
    if spaces.exact:
        machine = SVC(kernel="precomputed", C=choice.cost, class_weight=weights, decision_function_shape="ovr")
        machine.fit(where, labels)
        count = _kernel_parameters(choice, machine, spaces)
    else:
        machine = LinearSVC(C=choice.cost, class_weight=weights, dual=False, max_iter=PRIMAL_STEPS)
        machine.fit(where, labels)
        count = machine.coef_.size + machine.intercept_.size

    def decide(values: Array) -> Array:
        found = machine.decision_function(values)
        if found.ndim == 1:
            found = np.stack([-found, found], axis=1)
        outputs = np.full((len(values), classes), min(-1e3, float(found.min()) - 1))
        outputs[:, present] = found
        return outputs

    return decide, count


def _kernel_parameters(choice: Choice, machine: Any, spaces: _Spaces) -> int:
    """Weights of the support vectors and, with the Gaussian kernel, these vectors; else one weight per feature."""
    width = spaces.values.shape[1]
    if choice.kernel == "linear":
        return int(machine.dual_coef_.shape[0] * width + machine.intercept_.size)
    return int(machine.dual_coef_.size + len(machine.support_) * width + machine.intercept_.size)
