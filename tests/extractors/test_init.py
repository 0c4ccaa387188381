"""The package's surface, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import extractors


def test_all_names_exist() -> None:
    assert sorted(extractors.__all__) == extractors.__all__
    for name in extractors.__all__:
        assert getattr(extractors, name) is not None
    assert callable(extractors.extract)


def test_importing_pulls_in_no_heavy_library() -> None:
    heavy = ["torch", "torchaudio", "mediapipe", "librosa", "cv2", "transformers", "av", "sklearn", "scipy", "pysubs2"]
    code = (
        "import sys, extractors\n"
        "for name in ('speech.librosa', 'speech.torchaudio', 'facial.facemesh', 'text.lexical'): "
        f"extractors.build(name)\nprint([m for m in {heavy!r} + ['mmsa', 'fusion'] if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
