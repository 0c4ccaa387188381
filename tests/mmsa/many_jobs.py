"""Jobs for `mmsa.many`, in a module of their own, so that worker processes find them by name."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from mmsa.errors import UsageError


def square(number: int) -> int:
    return number * number


def process_of(_: int) -> int:
    return os.getpid()


def fail_at_three(number: int) -> int:
    if number == 3:
        raise UsageError("three is not allowed")
    return number


class OddError(Exception):
    """Pickles, but cannot be made again from its message alone."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def raise_odd(_: int) -> None:
    raise OddError(1, 2)


def return_unpicklable(number: int) -> object:
    return (lambda: number) if number else number


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def leave_at_three(number: int) -> int:
    if number == 3:
        sys.exit(7)
    return number


def threads(_: int) -> int:
    import torch

    return torch.get_num_threads()


def meet(folder_and_names: tuple[str, str, str]) -> bool:
    """Leave a file and wait for the other's: comes back only when both run at the same time."""
    folder, own, other = folder_and_names
    (Path(folder) / own).touch()
    end = time.monotonic() + 60
    while not (Path(folder) / other).exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def wait_for(path: str) -> str:
    """Comes back when the file is there; an empty name needs none."""
    while path and not Path(path).exists():
        time.sleep(0.01)
    return path


def sleep_long(path: str) -> None:
    """Says who it is in a file, sleeps, and says so when it was interrupted."""
    Path(path).write_text(str(os.getpid()), encoding="utf-8")
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        Path(path).with_suffix(".interrupted").touch()
        raise


def stubborn(path: str) -> None:
    """As `sleep_long`, but does not let itself be interrupted."""
    Path(path).write_text(str(os.getpid()), encoding="utf-8")
    while True:
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            continue


def quick_or(what: str) -> None:
    """`"quick"`, or the name of one of the two above and its path."""
    if what != "quick":
        name, _, path = what.partition(":")
        {"sleep_long": sleep_long, "stubborn": stubborn}[name](path)
