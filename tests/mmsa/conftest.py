from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mmsa.corpora
from extractors.spec import ExtractorSpec
from mmsa.corpora.clip import Clip, Corpus, Split
from mmsa.features import FeatureTable
from mmsa.tasks import Task

if TYPE_CHECKING:
    from mmsa.config import TrainConfig
    from mmsa.runs import Run

MakeCorpus = Callable[..., Corpus]
MakeTable = Callable[..., FeatureTable]
Mmsa = Callable[..., tuple[int, str, str]]
WriteWav = Callable[[Path, Sequence[float]], Path]


def _table(modality: str, sequences: Sequence[NDArray[np.floating[Any]]]) -> FeatureTable:
    values = np.concatenate(sequences).astype(np.float32)
    offsets = np.cumsum([0, *map(len, sequences)], dtype=np.int64)
    times = np.concatenate([np.stack([np.arange(len(s)), np.arange(len(s)) + 1], axis=1) for s in sequences])
    return FeatureTable(
        spec=ExtractorSpec(f"{modality}.made", "none", "1", {}),
        names=tuple(f"{modality}_{i}" for i in range(values.shape[1])),
        values=values,
        times=times.astype(np.float64),
        offsets=offsets,
        missing={str(i): "made without" for i, s in enumerate(sequences) if not len(s)},
    )


def _corpus(tasks: Sequence[Task], splits: Sequence[Split], labels: Sequence[Mapping[str, float | str]]) -> Corpus:
    clips = [Clip(str(i), split, own) for i, (split, own) in enumerate(zip(splits, labels, strict=True))]
    return Corpus("made", tuple(clips), tuple(tasks))


@pytest.fixture
def make_table() -> MakeTable:
    """`(modality, [(T_i, D) per clip])` → a feature table in memory."""
    return _table


@pytest.fixture
def make_corpus() -> MakeCorpus:
    """`(tasks, split per clip, labels per clip)` → a corpus without media; clip ids are "0", "1", …"""
    return _corpus


def _wav(path: Path, levels: Sequence[float]) -> Path:
    samples = np.repeat(np.round(np.array(levels) * 32768), 800).astype("<i2")
    samples[1::2] *= -1
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture
def write_wav() -> WriteWav:
    """`(path, levels)` → a WAV file with a tenth of a second of each amplitude, multiples of 2**-15 below 1."""
    return _wav


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module `small_extractors`, with its counts at 0; importable by name, in worker processes as well."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    module = importlib.import_module("small_extractors")
    module.CALLS.clear()
    return module


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's cache, data or MLflow store is read or written."""
    monkeypatch.setenv("MMSA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and no run; making one takes seconds, so it is made once and copied."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _empty_store: Path) -> Path:
    """The working directory, with the default MLflow store in it."""
    folder = tmp_path / "workspace"
    (folder / "mlruns").mkdir(parents=True)
    shutil.copy(_empty_store, folder / "mlruns" / "mlflow.db")
    monkeypatch.chdir(folder)
    return folder


@dataclass(frozen=True)
class Trained:
    """A finished run on the corpus of `small_extractors`, in its own working directory."""

    run: Run
    config: TrainConfig
    root: Path
    workspace: Path


def _write_small_corpus(root: Path) -> None:
    """High clips are loud and say long words, low ones the opposite; two have no words, one has no sound."""
    for split, count in (("train", 16), ("valid", 8), ("test", 7)):
        for i in range(count):
            emotion = ("low", "high")[i % 2]
            path = root / f"{split}-{i:02}-{emotion}.wav"
            level = (0.125, 0.5)[i % 2] + (i % 4) / 64
            _wav(path, [level] * (2 + i % 3))
            if (split, i) not in {("train", 3), ("test", 2)}:
                path.with_suffix(".words").write_text(("so it", "WONDERFUL morning")[i % 2], encoding="utf-8")
    # Shorter than the tenth of a second that loudness is measured over.
    with wave.open(str(root / "test-05-high.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(400))


def _use_small(patch: pytest.MonkeyPatch, workspace: Path) -> None:
    patch.syspath_prepend(Path(__file__).parent)
    patch.setitem(mmsa.corpora.CORPORA, "small", "small_extractors:load_small")
    patch.setenv("MMSA_CACHE", str(workspace / "cache"))
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    patch.chdir(workspace)


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory, _empty_store: Path) -> Trained:
    from mmsa.config import make_config
    from mmsa.runs import train

    workspace, root = tmp_path_factory.mktemp("finished"), tmp_path_factory.mktemp("small")
    (workspace / "mlruns").mkdir()
    shutil.copy(_empty_store, workspace / "mlruns" / "mlflow.db")
    _write_small_corpus(root)
    config = make_config(None, {**SMALL_SETTINGS, "root": root})
    with pytest.MonkeyPatch.context() as patch:
        _use_small(patch, workspace)
        return Trained(train(config), config, root, workspace)


SMALL_SETTINGS: dict[str, Any] = {
    "corpus": "small",
    "modalities": ["audio", "text"],
    "extractors.audio.name": "small_extractors:Loudness",
    "extractors.text.name": "small_extractors:WordLengths",
    "head.hidden_dim": 6,
    "epochs": 12,
    "learning_rate": 0.05,
    "batch_size": 8,
    "device": "cpu",
    "jobs": 1,
}


@pytest.fixture
def trained(_finished: Trained, monkeypatch: pytest.MonkeyPatch, small: Any) -> Trained:
    """A finished run, from inside its working directory; do not write there."""
    _use_small(monkeypatch, _finished.workspace)
    return _finished


@pytest.fixture
def copied(_finished: Trained, workspace: Path, monkeypatch: pytest.MonkeyPatch, small: Any) -> Trained:
    """The run of `trained` in a store of the test's own, without any features; runs may be added."""
    import sqlite3

    _use_small(monkeypatch, workspace)
    store = workspace / "mlruns" / "mlflow.db"
    shutil.copy(_finished.workspace / "mlruns" / "mlflow.db", store)
    with sqlite3.connect(store) as database:
        place = (workspace / "mlruns" / "artifacts").as_uri()
        database.execute("UPDATE experiments SET artifact_location = ?", (place,))
    return replace(_finished, workspace=workspace)


@pytest.fixture
def untrained(_finished: Trained, workspace: Path, monkeypatch: pytest.MonkeyPatch, small: Any) -> TrainConfig:
    """The configuration of `trained`, from inside a working directory of its own without any run or feature."""
    _use_small(monkeypatch, workspace)
    return _finished.config


@pytest.fixture
def run_mmsa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mmsa:
    """`(*words)` → exit code, standard output and standard error of `mmsa` with these words."""
    import mmsa.cli

    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmsa", *map(str, words)])
        with pytest.raises(SystemExit, match=r"^\d*$") as ended:
            mmsa.cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def beeps() -> ModuleType:
    """The module `tests/tiny_whisper.py`."""
    spec = importlib.util.spec_from_file_location("tiny_whisper", Path(__file__).parents[1] / "tiny_whisper.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory, beeps: ModuleType) -> Path:
    """A Whisper that knows three words, trained and saved."""
    return beeps.build(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="session")
def ctc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CTC model with random weights: it aligns, if nonsensically."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("ctc")
    signs = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.json").write_text(json.dumps({sign: number for number, sign in enumerate(signs)}))
    transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(signs), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    transformers.Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Launched:
    """What two launched processes left of each job of `launched_jobs`."""

    folder: Path
    jobs: Any

    def facts(self, name: str) -> tuple[Any, Any]:
        """Of both processes."""
        return tuple(json.loads((self.folder / f"{name}-{rank}.json").read_text("utf-8")) for rank in range(2))  # type: ignore[return-value]

    def tensors(self, name: str) -> tuple[Any, Any]:
        """Of both processes."""
        from safetensors.torch import load_file

        return tuple(load_file(self.folder / f"{name}-{rank}.safetensors") for rank in range(2))  # type: ignore[return-value]


@pytest.fixture(scope="session")
def _launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launched")
    launch(2, Path(__file__).with_name("launched_jobs.py"), folder, cwd=folder)
    return folder


@pytest.fixture
def launched(_launched: Path, monkeypatch: pytest.MonkeyPatch) -> Launched:
    """The jobs of `launched_jobs`, done by two processes that were launched together."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return Launched(_launched, importlib.import_module("launched_jobs"))


def launch(
    processes: int, *words: object, cwd: Path, by: Sequence[str] = (), expected: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a script in processes that `torchrun`, or another launcher, starts together."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        [sys.executable, *(by or torchrun), *map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (ended.returncode == 0) == (expected == 0), ended.stderr
    return ended
