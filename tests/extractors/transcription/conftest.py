from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def beeps() -> ModuleType:
    """The module `tests/tiny_whisper.py`."""
    path = Path(__file__).parents[2] / "tiny_whisper.py"
    spec = importlib.util.spec_from_file_location("tiny_whisper", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def whisper_folder(tmp_path_factory: pytest.TempPathFactory, beeps: ModuleType) -> Path:
    """A Whisper that knows three words, trained and saved."""
    return beeps.build(tmp_path_factory.mktemp("whisper"))


@pytest.fixture
def spoken(beeps: ModuleType) -> Callable[..., object]:
    """`spoken(words with their times, seconds)`: sound that says them."""
    return beeps.spoken
