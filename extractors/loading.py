"""Large libraries, imported in less time."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType
from typing import Any

_lock = RLock()


class _Late(ModuleType):
    """A module whose code runs when something in it is first asked for.

    The standard library's `LazyLoader` would run it at the next `import` already, which looks at the module's
    `__spec__`.
    """

    def __getattr__(self, name: str) -> Any:
        with _lock:
            if self.__class__ is _Late and "_loading" not in self.__dict__:
                self._loading = True
                try:
                    assert self.__spec__ is not None
                    assert self.__spec__.loader is not None
                    self.__spec__.loader.exec_module(self)
                    object.__setattr__(self, "__class__", ModuleType)
                finally:
                    del self._loading
        return object.__getattribute__(self, name)


def load_late(name: str) -> None:
    """Have a module loaded when something in it is first asked for, whoever imports it.

    MediaPipe imports matplotlib's pyplot, which takes a third of a second, for functions that draw. Where a module is
    not installed or was imported already, nothing changes.

    Args:
        name: of a module in a package; the package is imported.
    """
    if name in sys.modules:
        return
    package, _, own = name.rpartition(".")
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return
    if spec is not None:
        module = module_from_spec(spec)
        module.__class__ = _Late
        sys.modules[name] = module
        setattr(sys.modules[package], own, module)


@contextmanager
def without_collecting() -> Iterator[None]:
    """Python's search for unreachable cycles waits until the block ends.

    It would go through everything imported so far again and again, for a tenth of the time that a large import takes.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
