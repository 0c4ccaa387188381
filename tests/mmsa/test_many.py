from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mmsa.many
from mmsa.errors import UsageError
from mmsa.many import WorkerLostError, run_many

HERE = Path(__file__).parent


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(HERE)
    return importlib.import_module("many_jobs")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.mark.parametrize("processes", [1, 2, 9])
def test_every_item_comes_once_with_its_result(jobs: Any, processes: int) -> None:
    found = list(run_many(jobs.square, [1, 2, 3, 4, 4], processes=processes))
    assert sorted(found) == [(1, 1), (2, 4), (3, 9), (4, 16), (4, 16)]
    assert list(run_many(jobs.square, [], processes=processes)) == []


def test_one_process_or_one_item_stays_in_this_process_and_in_order(jobs: Any) -> None:
    assert list(run_many(jobs.process_of, [3, 1, 2], processes=1)) == [(n, os.getpid()) for n in (3, 1, 2)]
    assert list(run_many(jobs.process_of, [5], processes=4)) == [(5, os.getpid())]


def test_workers_are_reused_and_as_many_as_asked_for(jobs: Any) -> None:
    pids = {pid for _, pid in run_many(jobs.process_of, list(range(8)), processes=2)}
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2
    until(lambda: not any(is_alive(pid) for pid in pids))


def test_workers_run_at_the_same_time(jobs: Any, tmp_path: Path) -> None:
    items = [(str(tmp_path), "a", "b"), (str(tmp_path), "b", "a")]
    assert [done for _, done in run_many(jobs.meet, items, processes=2)] == [True, True]


def test_results_come_in_order_of_completion(jobs: Any, tmp_path: Path) -> None:
    """The first item waits for a file that is made when the second has come back."""
    late = str(tmp_path / "go")
    order = []
    for item, _ in run_many(jobs.wait_for, [late, ""], processes=2):
        order.append(item)
        Path(late).touch()
    assert order == ["", late]


@pytest.mark.parametrize("processes", [1, 2])
def test_an_exception_comes_beside_its_item_and_stops_no_other(jobs: Any, processes: int) -> None:
    found = dict(run_many(jobs.fail_at_three, [1, 2, 3, 4, 5], processes=processes))
    error = found.pop(3)
    assert found == {1: 1, 2: 2, 4: 4, 5: 5}
    assert isinstance(error, UsageError)
    assert str(error) == "three is not allowed"


def test_a_workers_traceback_is_a_note(jobs: Any) -> None:
    found = dict(run_many(jobs.fail_at_three, [3, 4], processes=2))
    (note,) = found[3].__notes__
    assert "in fail_at_three" in note


def test_an_exception_that_does_not_survive_pickling_keeps_its_text(jobs: Any) -> None:
    (_, one), (_, two) = run_many(jobs.raise_odd, [1, 2], processes=2)
    for error in (one, two):
        assert type(error) is RuntimeError
        assert "OddError: 1 and 2" in str(error)


def test_a_result_that_cannot_be_pickled_is_that_items_failure(jobs: Any) -> None:
    found = dict(run_many(jobs.return_unpicklable, [0, 1], processes=2))
    assert found[0] == 0
    assert isinstance(found[1], Exception)


def test_a_function_that_workers_cannot_find_fails_every_item(jobs: Any) -> None:
    module = type(sys)("nowhere_to_be_found")
    exec("def gone(x): return x", module.__dict__)
    sys.modules["nowhere_to_be_found"] = module
    try:
        found = dict(run_many(module.gone, [1, 2], processes=2))
    finally:
        del sys.modules["nowhere_to_be_found"]
    assert all(isinstance(error, ModuleNotFoundError) for error in found.values())
    assert set(found) == {1, 2}


@pytest.mark.parametrize(("name", "how"), [("die_at_three", "SIGKILL"), ("leave_at_three", "exit code 7")])
def test_a_worker_that_dies_costs_its_own_item_only(jobs: Any, name: str, how: str) -> None:
    found = dict(run_many(getattr(jobs, name), [1, 3, 2, 4, 5], processes=2))
    lost = found.pop(3)
    assert isinstance(lost, WorkerLostError)
    assert "worked on 3" in str(lost)
    assert how in str(lost)
    assert found == {1: 1, 2: 2, 4: 4, 5: 5}


def test_workers_compute_with_one_thread(jobs: Any) -> None:
    assert [count for _, count in run_many(jobs.threads, [1, 2], processes=2)] == [1, 1]


def leave_early(jobs: Any, path: Path, kind: str) -> int:
    """Take the first result and go while the other worker is busy; returns that worker's process id."""
    found = run_many(jobs.quick_or, ["quick", f"{kind}:{path}"], processes=2)
    assert next(found) == ("quick", None)
    until(lambda: path.exists() and bool(path.read_text()))
    found.close()  # type: ignore[attr-defined]
    return int(path.read_text())


def test_leaving_early_interrupts_the_workers(jobs: Any, tmp_path: Path) -> None:
    assert not is_alive(leave_early(jobs, tmp_path / "a", "sleep_long"))
    assert (tmp_path / "a.interrupted").exists()


def test_a_worker_that_will_not_stop_is_killed(jobs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmsa.many, "GRACE_SECONDS", 0.2)
    assert not is_alive(leave_early(jobs, tmp_path / "a", "stubborn"))


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import many_jobs
from mmsa.many import run_many

if __name__ == "__main__":
    for _ in run_many(many_jobs.sleep_long, sys.argv[2:], processes=2):
        pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C in the parent alone, and a parent killed outright."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    paths = [tmp_path / "a", tmp_path / "b"]
    with subprocess.Popen(
        [sys.executable, str(program), str(HERE), *map(str, paths)], stderr=subprocess.PIPE, text=True
    ) as parent:
        until(lambda: all(path.exists() and path.read_text() for path in paths))
        parent.send_signal(number)
        parent.wait(60)
    pids = [int(path.read_text()) for path in paths]
    until(lambda: not any(is_alive(pid) for pid in pids))
    assert all(path.with_suffix(".interrupted").exists() for path in paths)


def test_no_process_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        run_many(len, ["a"], processes=0)
