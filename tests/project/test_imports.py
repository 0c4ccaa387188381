"""Heavy libraries are imported at use, and `fusion` needs torch alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def modules_after(statement: str) -> set[str]:
    """Top-level names in `sys.modules` of a fresh process after a statement."""
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_extractors_load_no_tool() -> None:
    loaded = modules_after("import extractors")
    assert "extractors" in loaded
    assert not loaded & {"torch", "torchaudio", "mediapipe", "librosa", "cv2", "transformers", "av", "scipy", "sklearn"}
    assert not loaded & {"mmsa", "fusion"}


def test_fusion_loads_torch_and_nothing_beside_it() -> None:
    own = modules_after("import fusion") - modules_after("import torch")
    assert {name for name in own if name not in sys.stdlib_module_names} == {"fusion"}


@pytest.mark.parametrize("statement", ["import mmsa", "import mmsa.cli"])
def test_the_command_line_loads_nothing_heavy(statement: str) -> None:
    loaded = modules_after(statement)
    assert "mmsa" in loaded
    heavy = {
        "torch",
        "mlflow",
        "transformers",
        "sklearn",
        "pandas",
        "scipy",
        "matplotlib",
        "mediapipe",
        "librosa",
        "av",
        "ray",
    }
    assert not loaded & {*heavy, "numpy", "pydantic", "extractors", "fusion"}


def test_the_help_texts_load_nothing_heavy() -> None:
    """All of them: a command's own imports come after its arguments are read."""
    for words in (["--help"], ["train", "--help"], ["score", "--help"], ["live", "--help"]):
        loaded = modules_after(
            "import sys, mmsa.cli\n"
            f"sys.argv = ['mmsa', *{words!r}]\n"
            "real, sys.stdout = sys.stdout, open('/dev/null', 'w')\n"
            "try:\n    mmsa.cli.main()\nexcept SystemExit:\n    pass\n"
            "sys.stdout = real"
        )
        assert not loaded & {"torch", "mlflow", "transformers", "sklearn", "pandas", "numpy"}, words


def test_public_names_are_found_at_use() -> None:
    import mmsa

    for name in mmsa.__all__:
        assert getattr(mmsa, name).__module__.startswith("mmsa.")
    with pytest.raises(AttributeError, match="module 'mmsa' has no attribute 'nonesuch'"):
        mmsa.nonesuch  # noqa: B018
