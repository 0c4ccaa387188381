"""The bundle: what training leaves and all that scoring needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extractors.spec import ExtractorSpec
from mmsa.errors import UsageError
from mmsa.tasks import Task, task_from_dict
from mmsa.words import KeptModel, WordOptions

if TYPE_CHECKING:
    from mmsa.calibration import Calibration
    from mmsa.model import MultimodalModel

FORMAT = 1
DESCRIPTION = "bundle.json"
WEIGHTS = "weights.safetensors"
WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.h5", "*.msgpack", "*.pt", "*.pth", "*.onnx")
INSIDE = "bundle:"
"""How a path begins that is relative to the bundle."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model with everything around it.

    Attributes:
        model: in evaluation mode, on the CPU.
        tasks: what its outputs mean, in order.
        extractors: the spec of each modality's extractor.
        corpus: what it was trained on.
        note: what must be read with its figures, or "".
        versions: of Python and the libraries at training time.
        baseline: `(O,)`, the mean of the readable predictions (scores, probabilities) on the training split: what
            contributions of modalities are counted from.
        calibration: temperatures and intervals fitted on the validation split; None for bundles of older versions.
        words: the speech models that the corpus's transcripts were made with, and that scoring uses as well.
        clip_seconds: how long the clips of the training split are: 5th percentile, median, 95th; None where they carry
            no times.
    """

    model: MultimodalModel
    tasks: tuple[Task, ...]
    extractors: Mapping[str, ExtractorSpec]
    corpus: str
    note: str
    versions: Mapping[str, str]
    baseline: tuple[float, ...]
    calibration: Calibration | None = None
    clip_seconds: tuple[float, float, float] | None = None
    words: WordOptions = field(default_factory=WordOptions)

    def save(self, folder: Path) -> None:
        """Write the bundle; local files that extractors need are copied in, so that nothing beside it is needed.

        The description is written last: a folder without it is not a bundle.
        """
        from safetensors.torch import save_file

        from mmsa.encoders.files import pack_encoders

        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in self.model.state_dict().items()}, folder / WEIGHTS)
        description = {
            "format": FORMAT,
            "model": {**asdict(self.model.config), "encoders": pack_encoders(self.model.config.encoders, folder)},
            "tasks": [task.to_dict() for task in self.tasks],
            "extractors": {key: _pack(spec, folder) for key, spec in self.extractors.items()},
            "corpus": self.corpus,
            "note": self.note,
            "versions": dict(self.versions),
            "baseline": list(self.baseline),
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "clip_seconds": None if self.clip_seconds is None else list(self.clip_seconds),
            "words": _pack_words(self.words, folder),
        }
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def load_bundle(folder: Path) -> Bundle:
    """Read what `Bundle.save` wrote. Nothing in the folder is executed.

    Raises:
        UsageError: not a bundle, one of another version, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from mmsa.calibration import Calibration
    from mmsa.encoders.files import unpack_encoders
    from mmsa.encoders.spec import EncoderMissingError
    from mmsa.model import ModelConfig, MultimodalModel

    data = _read_description(folder)
    try:
        tasks = tuple(task_from_dict(task) for task in data["tasks"])
        encoders = unpack_encoders(data["model"].get("encoders", {}), folder)
        model = MultimodalModel(ModelConfig(**{**data["model"], "encoders": encoders}), pretrained=False)
        if model.config.output_dim != sum(task.output_dim for task in tasks):
            raise ValueError(f"{model.config.output_dim} outputs for the tasks {', '.join(t.name for t in tasks)}")
        if len(data["baseline"]) != model.config.output_dim:
            raise ValueError(f"a baseline of {len(data['baseline'])} for {model.config.output_dim} outputs")
        model.load_state_dict(load_file(folder / WEIGHTS))
        return Bundle(
            model=model.eval(),
            tasks=tasks,
            extractors={key: _unpack(spec, folder) for key, spec in data["extractors"].items()},
            corpus=data["corpus"],
            note=data["note"],
            versions=data["versions"],
            baseline=tuple(float(value) for value in data["baseline"]),
            calibration=Calibration.from_dict(fitted) if (fitted := data.get("calibration")) is not None else None,
            clip_seconds=None if (clips := data.get("clip_seconds")) is None else (clips[0], clips[1], clips[2]),
            words=_unpack_words(data.get("words", {}), folder),
        )
    except EncoderMissingError as error:
        raise UsageError(f"the bundle {folder}: {error}") from None
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]  # torch names every tensor that does not fit
        raise UsageError(f"the bundle {folder} is damaged ({reason}): train again, or fetch it again") from None


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UsageError(f"{folder} is not a bundle: it holds no {DESCRIPTION}. `mmsa train` makes bundles")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}): train again, or fetch it again") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UsageError(f"{path} has another format than this version of mmsa reads ({FORMAT}): update mmsa")
    return data


def _pack(spec: ExtractorSpec, folder: Path) -> dict[str, Any]:
    """The spec as JSON; local files and folders that its hints name (an encoder's weights) are copied beside it."""
    weights = "files_sha256" not in spec.parameters  # a tokenizer lies beside weights that it does not need
    hints = {key: pack_hint(hint, folder, f"{spec.fingerprint}-{key}", weights) for key, hint in spec.hints.items()}
    return replace(spec, hints=hints).to_dict()


def _pack_words(words: WordOptions, folder: Path) -> dict[str, Any]:
    packed: dict[str, Any] = {"language": words.language} if words.language is not None else {}
    for key, model in words.models.items():
        assert isinstance(model, KeptModel)
        packed[key] = {"name": model.name, "spec": _pack(ExtractorSpec.from_json(model.spec), folder)}
    return packed


def _unpack_words(data: Mapping[str, Any], folder: Path) -> WordOptions:
    models = {
        key: KeptModel(str(data[key]["name"]), _unpack(data[key]["spec"], folder).to_json())
        for key in ("transcribe", "align")
        if key in data
    }
    return WordOptions(models.get("transcribe"), data.get("language"), models.get("align"))


def pack_hint(hint: object, folder: Path, name: str, weights: bool = True) -> object:
    """A hint as it stands in a bundle: what lies on this machine is copied in, under `encoders/<name>`.

    Args:
        hint: a path, or anything else, which stays.
        folder: of the bundle.
        name: of the copy.
        weights: whether those of a model's folder are copied, too.
    """
    source = Path(hint) if isinstance(hint, str) else None
    if source is None or not source.exists():
        return hint
    inside = Path("encoders") / name
    if source.is_dir():
        left_out = None if weights else shutil.ignore_patterns(*WEIGHT_FILES)
        shutil.copytree(source, folder / inside, ignore=left_out, dirs_exist_ok=True)
    else:
        inside = inside / source.name
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / inside)
    return f"{INSIDE}{inside.as_posix()}"


def _unpack(data: Mapping[str, Any], folder: Path) -> ExtractorSpec:
    spec = ExtractorSpec.from_dict(data)
    return replace(spec, hints={key: locate_hint(hint, folder) for key, hint in spec.hints.items()})


def locate_hint(hint: object, folder: Path) -> object:
    """Where a hint's file lies; paths that lead out of the bundle are refused."""
    if not isinstance(hint, str) or not hint.startswith(INSIDE):
        return hint
    path = (folder / hint.removeprefix(INSIDE)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"the path {hint!r} leaves the bundle")
    return str(path)


def library_versions() -> dict[str, str]:
    """Versions of what decides the numbers, for the record."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    names = ("mmsa-framework", "torch", "torchaudio", "librosa", "mediapipe", "opencv-contrib-python", "av")
    versions = {"python": platform.python_version()}
    for name in (*names, "transformers", "peft", "numpy", "scikit-learn"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions
