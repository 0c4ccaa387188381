"""Finding pretrained models; loading through a real encoder is tested with the extractors that use it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from transformers.utils import logging

from extractors import pretrained
from extractors.errors import ToolError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with a configuration and something in place of the weights."""
    transformers.ViTConfig(hidden_size=8).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    return tmp_path / "model"


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
        "video_preprocessor_config.json",
        "tokenizer.json",
    ],
)
def test_the_hash_is_of_what_decides_the_numbers(folder: Path, name: str) -> None:
    before = pretrained.folder_sha256(folder)
    (folder / "README.md").write_text("notes")
    assert pretrained.folder_sha256(folder) == before
    assert pretrained.folder_sha256(folder.rename(folder.parent / "moved")) == before
    moved = folder.parent / "moved"
    with (moved / name).open("ab") as file:
        file.write(b" ")
    assert pretrained.folder_sha256(moved) != before


def test_a_folder_is_known_by_its_hash(folder: Path) -> None:
    found = pretrained.find(str(folder), None, None)
    assert found.identity == {"weights_sha256": pretrained.folder_sha256(folder)}
    assert found.hints == {"model": str(folder)}
    assert found.source == pretrained.Source(str(folder), None, True)
    assert found.config.hidden_size == 8
    with pytest.raises(ToolError, match=r"have the SHA-256 [0-9a-f]{64}, but 00 is required"):
        pretrained.find(str(folder), None, "00")
    with pytest.raises(ValueError, match="is for hub models"):
        pretrained.find(str(folder), "main", None)


@pytest.mark.parametrize("model", ["./gone", "/gone", "~/gone", "a/b/c"])
def test_a_folder_that_is_gone_is_not_looked_for_on_the_hub(model: str) -> None:
    with pytest.raises(ToolError, match="no such folder; give the local folder that holds"):
        pretrained.find(model, None, None)


def test_the_load_report_comes_back(folder: Path) -> None:
    before = logging.get_verbosity()
    with pytest.raises(RuntimeError, match="stopped"), pretrained.without_load_report():
        raise RuntimeError(f"stopped at {logging.get_verbosity()}")
    with pretrained.without_load_report():
        assert logging.get_verbosity() == logging.ERROR
    assert logging.get_verbosity() == before


def test_what_a_folder_lacks_is_said(folder: Path) -> None:
    source = pretrained.Source(str(folder), None, True)
    with pytest.raises(ToolError, match=r"the image processor cannot be loaded from the folder .*tokenizer or preproc"):
        pretrained.load("image processor", "AutoImageProcessor", source)


def test_weights_are_whole_and_fit(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In single precision and set to be used; what is missing counts unless nothing is computed with it."""
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=16, patch_size=8
    )
    model = transformers.ViTModel(config).half()
    state = {key: value for key, value in model.state_dict().items() if "pooler" not in key}
    model.save_pretrained(tmp_path, state_dict=state)
    source = pretrained.Source(str(tmp_path), None, True)
    loaded = pretrained.load_weights("AutoModel", source, unused=lambda key: key.startswith("pooler."))
    assert not loaded.training
    for key, value in state.items():
        assert loaded.state_dict()[key].dtype == torch.float32
        assert torch.equal(loaded.state_dict()[key], value.float())
    assert "MISSING" not in capfd.readouterr().err
    with pytest.raises(
        ToolError, match=r"weights lack pooler\.dense\.bias, pooler\.dense\.weight, .* random: give another"
    ):
        pretrained.load_weights("AutoModel", source, advice="give another")
    config.intermediate_size = 9
    config.save_pretrained(tmp_path)
    with pytest.raises(ToolError, match=r"its weights do not fit its config\.json"):
        pretrained.load_weights("AutoModel", source, unused=lambda key: key.startswith("pooler."))


def test_the_device_is_chosen_or_as_given() -> None:
    assert pretrained.chosen_device("cuda:1") == "cuda:1"
    assert pretrained.chosen_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
