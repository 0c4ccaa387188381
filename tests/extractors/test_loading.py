"""Imports in less time: a module that loads late, and no search for cycles meanwhile."""

from __future__ import annotations

import gc
import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from extractors.loading import load_late, without_collecting

PACKAGE = "a_package_of_this_test"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package whose module `slow` notes in `loads` each time that its code runs."""
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "__init__.py").write_text("loads = []\n")
    (folder / "slow.py").write_text(
        f"import {PACKAGE}\n{PACKAGE}.loads.append(1)\nimport time\ntime.sleep(0.1)\nvalue = 7\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield folder
    for name in (PACKAGE, f"{PACKAGE}.slow"):
        sys.modules.pop(name, None)


def loads() -> int:
    return len(sys.modules[PACKAGE].loads)


def test_runs_when_something_in_it_is_asked_for(package: Path) -> None:
    load_late(f"{PACKAGE}.slow")
    exec(f"import {PACKAGE}.slow\nimport {PACKAGE}.slow as slow\nfrom {PACKAGE} import slow as again")
    assert loads() == 0
    module = importlib.import_module(f"{PACKAGE}.slow")
    assert module.value == 7
    assert module.value == 7
    assert loads() == 1
    assert sys.modules[PACKAGE].slow is module


def test_what_is_not_in_it_is_missing_as_ever(package: Path) -> None:
    load_late(f"{PACKAGE}.slow")
    module = importlib.import_module(f"{PACKAGE}.slow")
    with pytest.raises(AttributeError, match="nothing_there"):
        _ = module.nothing_there
    assert module.value == 7


def test_several_threads_load_it_once_and_all_wait(package: Path) -> None:
    load_late(f"{PACKAGE}.slow")
    module = importlib.import_module(f"{PACKAGE}.slow")
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(module.value)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [7] * 8
    assert loads() == 1


def test_a_module_that_fails_fails_where_it_is_asked_and_may_be_tried_again(package: Path) -> None:
    (package / "slow.py").write_text(
        f"import {PACKAGE}\nif {PACKAGE}.loads == []:\n    raise OSError('no')\nvalue = 8\n"
    )
    load_late(f"{PACKAGE}.slow")
    module = importlib.import_module(f"{PACKAGE}.slow")
    with pytest.raises(OSError, match="no"):
        _ = module.value
    sys.modules[PACKAGE].loads.append(1)
    assert module.value == 8


def test_what_is_there_already_or_nowhere_is_left_alone(package: Path) -> None:
    module = importlib.import_module(f"{PACKAGE}.slow")
    load_late(f"{PACKAGE}.slow")
    assert sys.modules[f"{PACKAGE}.slow"] is module
    for name in (f"{PACKAGE}.no_such_module", "no_such_package_at_all.part"):
        load_late(name)
        assert name not in sys.modules


def test_mediapipe_does_not_load_pyplot(tmp_path: Path) -> None:
    """In a process of its own, as other tests may have loaded it; afterwards it draws as ever."""
    import subprocess

    code = (
        "import sys, extractors as ex\n"
        "ex.build('facial.facemesh').stream().close()\n"
        "assert 'mediapipe' in sys.modules and 'matplotlib.figure' not in sys.modules\n"
        "import matplotlib.pyplot as plt\n"
        "plt.switch_backend('agg')\n"
        "plt.plot([1, 2])\n"
        f"plt.savefig({str(tmp_path / 'drawn.png')!r})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("on", [True, False])
def test_cycles_are_left_alone_meanwhile(on: bool) -> None:
    before = gc.isenabled()
    (gc.enable if on else gc.disable)()
    try:
        with without_collecting():
            with without_collecting():
                assert not gc.isenabled()
            assert not gc.isenabled()
        assert gc.isenabled() == on
        with suppress(ValueError), without_collecting():
            raise ValueError
        assert gc.isenabled() == on
    finally:
        (gc.enable if before else gc.disable)()
