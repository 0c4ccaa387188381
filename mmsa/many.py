"""Many jobs side by side in processes: seeds, heads, anything that a picklable function does to a picklable item."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
R = TypeVar("R")

GRACE_SECONDS = 10.0
"""How long an interrupted worker may take to put its things in order (an MLflow run is marked as killed)."""

STOPPED = 130
"""Exit code of a worker that was interrupted."""


class WorkerLostError(RuntimeError):
    """A worker process ended in the middle of its job: killed, out of memory, or a crash in a library."""


def run_many(
    function: Callable[[T], R], items: Sequence[T], *, processes: int, isolated: bool = False
) -> Iterator[tuple[T, R | Exception]]:
    """Apply a function to every item, several at a time; each result is yielded as it finishes.

    With one process (or one item) all happens in this one, in order. With more, each worker is a new process
    (`spawn`: a forked child would inherit the threads of torch and FFmpeg) that computes with one thread, since
    small runs gain nothing from several and workers beside each other lose by them. So results equal those of this
    process with `torch.set_num_threads(1)`. A script that calls this needs the usual
    `if __name__ == "__main__":` around it.

    However the caller leaves (the end, a `break`, an exception, Ctrl-C) no worker outlives the iterator: each is
    interrupted, given `GRACE_SECONDS` to clean up, then killed. Workers also end when this process is killed.

    Args:
        function: importable by name in a new process (a module's function, or `functools.partial` of one).
        items: what it is called with; each is sent to one worker.
        processes: most workers at a time.
        isolated: never work in this process, so that a crash in a library cannot end it.

    Yields:
        The item and what the function returned, or the exception it raised (with the worker's traceback as a note),
        in order of completion. One that fails stops no other. An item whose worker died comes with a
        `WorkerLostError`; a new worker takes the next.

    Raises:
        ValueError: `processes` is below 1.
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, not {processes}")
    processes = min(processes, len(items))
    if processes == 0 or (processes == 1 and not isolated):
        return _in_this_process(function, items)
    return _in_workers(function, items, processes)


def _in_this_process(function: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R | Exception]]:
    for item in items:
        result: R | Exception
        try:
            result = function(item)
        except Exception as error:  # noqa: BLE001 - carried to the caller beside its item
            result = error
        yield item, result


def _in_workers(function: Callable[[T], R], items: Sequence[T], processes: int) -> Iterator[tuple[T, R | Exception]]:
    waiting = iter(range(len(items)))
    crew = _Crew(pickle.dumps(function))
    try:
        for _ in range(processes):
            crew.give(crew.hire(), items, next(waiting))
        while crew.workers:
            for worker in crew.ready():
                result = worker.result()
                lost = isinstance(result, WorkerLostError) and not worker.process.is_alive()
                following = next(waiting, None)
                # The next job starts before the caller looks at this result.
                if following is None:
                    crew.dismiss(worker)
                elif lost:
                    crew.dismiss(worker)
                    crew.give(crew.hire(), items, following)
                else:
                    crew.give(worker, items, following)
                yield items[worker.done], result
    finally:
        crew.stop()


@dataclass(eq=False)
class _Worker:
    """A process, the pipe to it, and the item it works on."""

    process: BaseProcess
    pipe: Connection
    item: int = -1
    done: int = -1
    name: str = ""

    def result(self) -> Any:
        """What it sent, an exception included."""
        self.done = self.item
        try:
            return pickle.loads(self.pipe.recv_bytes())  # noqa: S301 - from our own child
        except (EOFError, OSError):
            self.process.join(GRACE_SECONDS)
            code = self.process.exitcode
            how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"
            return WorkerLostError(
                f"the process that worked on {self.name} {how}: out of memory (use fewer processes), or a crash in a "
                "library; what it wrote to standard error says more"
            )


class _Crew:
    """The workers at hand; stopping is safe to do twice and happens at the interpreter's end at the latest."""

    def __init__(self, function: bytes) -> None:
        self.function = function
        self.workers: list[_Worker] = []
        self.leaving: list[_Worker] = []
        self.context = multiprocessing.get_context("spawn")
        atexit.register(self.stop)  # runs before multiprocessing's own handler, which would wait for ever

    def hire(self) -> _Worker:
        """Start a process."""
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=_work, args=(theirs,))
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self.workers.append(worker)
        with suppress(OSError):  # it died at once: the first result says so
            ours.send_bytes(self.function)
        return worker

    def give(self, worker: _Worker, items: Sequence[Any], index: int) -> None:
        """Send a worker its next item."""
        worker.item, worker.name = index, f"{items[index]!r:.200}"
        with suppress(OSError):
            worker.pipe.send_bytes(pickle.dumps(items[index]))

    def ready(self) -> list[_Worker]:
        """Wait for workers that have a result or are dead."""
        pipes = {worker.pipe: worker for worker in self.workers}
        return [pipes[pipe] for pipe in wait(list(pipes)) if isinstance(pipe, Connection)]

    def dismiss(self, worker: _Worker) -> None:
        """No more work: a closed pipe ends it."""
        self.workers.remove(worker)
        self.leaving.append(worker)
        worker.pipe.close()

    def stop(self) -> None:
        """End every worker: those at work are interrupted, and killed when they take too long."""
        atexit.unregister(self.stop)
        for worker in self.workers:
            worker.process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in (*self.workers, *self.leaving):
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        self.workers, self.leaving = [], []


def _work(pipe: Connection) -> None:
    """A worker's life: the function first, then items until the pipe closes."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    threading.Thread(target=_watch_parent, daemon=True).start()
    try:
        function = _one_thread(pipe.recv_bytes())
        while True:
            answer = _answer(function, pipe.recv_bytes())
            pipe.send_bytes(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except KeyboardInterrupt:
        sys.exit(STOPPED)


def _one_thread(pickled: bytes) -> Callable[[Any], Any]:
    """The function, or one that raises what unpickling it raised; with it come its imports, torch's among them."""
    function: Callable[[Any], Any]
    try:
        function = pickle.loads(pickled)  # noqa: S301 - from our own parent
    except Exception as error:  # noqa: BLE001 - becomes the result of every item
        failure = error

        def function(_: Any) -> NoReturn:
            raise failure

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    return function


def _answer(function: Callable[[Any], Any], item: bytes) -> bytes:
    """The pickled result, or the pickled exception."""
    try:
        return pickle.dumps(function(pickle.loads(item)))  # noqa: S301 - from our own parent
    except Exception as error:  # noqa: BLE001 - carried to the caller beside its item
        told = "".join(traceback.format_exception(error))
        error.add_note(f"in a worker process:\n{told}")
        try:
            pickled = pickle.dumps(error)
            pickle.loads(pickled)  # noqa: S301 - exceptions with a constructor of their own often fail only here
        except Exception:  # noqa: BLE001 - whatever it is, the text is kept
            return pickle.dumps(RuntimeError(told))
        return pickled


def _interrupt(number: int, frame: object) -> NoReturn:
    """Ends the job as Ctrl-C would, once: cleaning up must not be interrupted by the next signal."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _watch_parent() -> None:
    """A parent that was killed outright leaves nobody to stop the worker."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os._exit(STOPPED)
