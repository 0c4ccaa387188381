"""`TransformerVision` on tiny encoders that are built and saved here, against plain forward passes."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import extractors
from extractors import pretrained
from extractors.vision.transformer import ImageEncoder, TransformerVision, encoder_width

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
PATCHES = (32 // 8) ** 2
PREPROCESSOR = {
    "do_resize": True, "size": {"height": 32, "width": 32}, "resample": 3, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.48, 0.45, 0.40], "image_std": [0.27, 0.26, 0.28],
}  # fmt: skip
CLIP_PREPROCESSOR = {
    **PREPROCESSOR, "size": {"shortest_edge": 32}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32},
    "do_convert_rgb": True,
}  # fmt: skip
WIDE_PREPROCESSOR = {**PREPROCESSOR, "size": {"shortest_edge": 32}, "do_center_crop": False}


def make(kind: str) -> tuple[transformers.PreTrainedModel, dict]:
    """A model with random weights, and its preprocessor's configuration."""
    t = transformers
    torch.manual_seed(sum(map(ord, kind)))
    if kind == "vit":
        return t.ViTModel(t.ViTConfig(**SIZES)), {**PREPROCESSOR, "image_processor_type": "ViTImageProcessor"}
    if kind == "classifier":
        model = t.ViTForImageClassification(t.ViTConfig(**SIZES))
        return model, {**PREPROCESSOR, "image_processor_type": "ViTImageProcessor"}
    if kind == "clip":
        text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9, "bos_token_id": 1,
                "eos_token_id": 2, "intermediate_size": 8}  # fmt: skip
        model = t.CLIPModel(t.CLIPConfig(vision_config=SIZES, text_config=text, projection_dim=4))
        return model, {**CLIP_PREPROCESSOR, "image_processor_type": "CLIPImageProcessor"}
    if kind == "clip-vision":
        model = t.CLIPVisionModel(t.CLIPVisionConfig(**SIZES))
        return model, {**CLIP_PREPROCESSOR, "image_processor_type": "CLIPImageProcessor"}
    if kind == "registers":
        model = t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**SIZES, num_register_tokens=4))
        return model, {**WIDE_PREPROCESSOR, "image_processor_type": "BitImageProcessor"}
    if kind == "convnext":
        model = t.ConvNextModel(t.ConvNextConfig(hidden_sizes=[4, 8], depths=[1, 1], num_stages=2))
        return model, {**PREPROCESSOR, "image_processor_type": "ViTImageProcessor"}
    assert kind == "mae"
    return t.ViTMAEModel(t.ViTMAEConfig(**SIZES)), {**PREPROCESSOR, "image_processor_type": "ViTImageProcessor"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`folders(kind)`: where such a model is saved, made once."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            model, preprocessor = make(kind)
            model.save_pretrained(made[kind])
            (made[kind] / "preprocessor_config.json").write_text(json.dumps(preprocessor))
        return made[kind]

    return folder


@pytest.fixture
def torchvision() -> None:
    """It is in the extras `gpu` and `dev`."""
    pytest.importorskip("torchvision")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Coloured gradients with noise, 50 × 70."""
    y, x = np.mgrid[0:50, 0:70] / 70.0
    noise = np.random.default_rng(0).normal(0, 12, (50, 70, 3))
    return np.clip(255 * np.stack([x, y, 1 - x], axis=2) + noise, 0, 255).astype(np.uint8)


def prepared(folder: Path, image: np.ndarray) -> torch.Tensor:
    """What transformers' own processor makes of the image, given as a Pillow image."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    return processor(Image.fromarray(image), return_tensors="pt")["pixel_values"]


def through(extractor: TransformerVision, *images: np.ndarray) -> np.ndarray:
    stream = extractor.stream()
    for k, image in enumerate(images):
        stream.push(image, [k])
    return stream.finish().values


def naive(kind: str, folder: Path, image: np.ndarray, pooling: str) -> np.ndarray:
    pixels = prepared(folder, image)
    whole = transformers.AutoModel.from_pretrained(folder).eval()
    model = whole.vision_model if kind == "clip" else whole
    with torch.no_grad():
        output = model(pixels)
    if pooling == "pooled":
        return output.pooler_output.flatten(1).numpy()[0]
    hidden = output.last_hidden_state
    if hidden.ndim == 4:
        return hidden.flatten(2).mean(2).numpy()[0]
    patches = (pixels.shape[2] // 8) * (pixels.shape[3] // 8)
    return (hidden[0, 0] if pooling == "cls" else hidden[0, -patches:].mean(0)).numpy()


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [
        *product(("vit", "clip", "clip-vision", "registers"), ("cls", "mean", "pooled")),
        ("classifier", "cls"),
        ("convnext", "mean"),
        ("convnext", "pooled"),
    ],
)  # fmt: skip
def test_equals_a_plain_forward_pass(folders: Callable, photo: np.ndarray, kind: str, pooling: str) -> None:
    folder = folders(kind)
    extractor = TransformerVision(model=str(folder), pooling=pooling)
    found = through(extractor, photo)
    expected = naive(kind, folder, photo, pooling)
    assert len(extractor.names) == len(expected)
    assert np.allclose(found[0], expected, atol=1e-5)
    assert np.abs(expected).max() > 0.01


def test_a_file_is_prepared_as_transformers_does(folders: Callable, photo: np.ndarray, tmp_path: Path) -> None:
    """From a PNG through `extract`, as from the picture in memory through the model's own processor."""
    Image.fromarray(photo).save(tmp_path / "a.png")
    extractor = extractors.build("vision.transformers", model=str(folders("clip")))
    found = extractors.extract(tmp_path / "a.png", {"vision": extractor}).sequences["vision"]
    assert np.allclose(found.values[0], naive("clip", folders("clip"), photo, "cls"), atol=1e-5)
    assert found.times.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("kind", ["vit", "registers"])
def test_batches_change_nothing(folders: Callable, photo: np.ndarray, kind: str) -> None:
    """Also of frames of other proportions, which this processor of DINOv2 keeps and which cannot share a batch."""
    frames = [photo, photo[::-1], photo[:, :50], photo[:, ::-1], photo[:40], photo // 2]
    alone = through(TransformerVision(model=str(folders(kind)), batch_size=1), *frames)
    for size in (2, 4, 16):
        together = through(TransformerVision(model=str(folders(kind)), batch_size=size), *frames)
        assert np.allclose(together, alone, atol=1e-5)
    assert len({row.tobytes() for row in alone}) == len(frames)


def test_frames_of_a_video(folders: Callable, media: Callable[..., Path], photo: np.ndarray) -> None:
    """Two seconds at two instants each; batch and segment change nothing."""
    frames = [np.ascontiguousarray(photo[:48, :64])] * 25 + [np.full((48, 64, 3), 30, np.uint8)] * 25
    path = media("a.mp4", frames=frames)
    one = extractors.build("vision.transformers", model=str(folders("vit")), batch_size=1)
    many = extractors.build("vision.transformers", model=str(folders("vit")), batch_size=3)
    found = extractors.extract(path, {"vision": one}).sequences["vision"]
    assert found.times[:, 0].tolist() == [0.0, 0.5, 1.0, 1.5]
    assert np.allclose(found.values[0], found.values[1], atol=0.05)
    assert np.abs(found.values[0] - found.values[2]).max() > 0.05
    assert np.allclose(extractors.extract(path, {"vision": many}).sequences["vision"].values, found.values, atol=1e-5)
    part = extractors.extract(path, {"vision": many}, start_seconds=1.0, end_seconds=2.0).sequences["vision"]
    assert np.allclose(part.values, found.values[2:], atol=1e-5)
    assert np.array_equal(part.times, found.times[2:])


def test_a_pooling_layer_that_is_not_in_the_checkpoint(
    folders: Callable, photo: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    """It would be random. Other poolings do not need it, and nothing alarming is printed then."""
    with pytest.raises(extractors.ToolError, match=r"its weights lack pooler.*would be random.*set pooling"):
        TransformerVision(model=str(folders("classifier")), pooling="pooled").stream()
    through(TransformerVision(model=str(folders("classifier")), pooling="mean"), photo)
    assert "MISSING" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("kind", "pooling", "message"),
    [
        ("convnext", "cls", "has no class token: set pooling to another of"),
        ("mae", "mean", r"other numbers for the same image every time.*mask patches at random"),
    ],
)
def test_what_a_model_cannot_give(folders: Callable, kind: str, pooling: str, message: str) -> None:
    with pytest.raises(extractors.ToolError, match=message):
        TransformerVision(model=str(folders(kind)), pooling=pooling).stream()


def test_other_models_are_refused(tmp_path: Path, folders: Callable) -> None:
    config = transformers.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(extractors.ToolError, match="the image processor cannot be loaded from the folder"):
        TransformerVision(model=str(tmp_path)).stream()
    shutil.copy(folders("vit") / "preprocessor_config.json", tmp_path)
    with pytest.raises(extractors.ToolError, match="is no image encoder that can be used here"):
        TransformerVision(model=str(tmp_path)).stream()
    with pytest.raises(extractors.ToolError, match=r"its configuration \(SimpleNamespace\) is not that of an image"):
        encoder_width(SimpleNamespace(), "some/model")


def test_the_spec_knows_the_weights_and_not_the_path(folders: Callable, tmp_path: Path, photo: np.ndarray) -> None:
    extractor = TransformerVision(model=str(folders("vit")))
    copy = tmp_path / "moved"
    shutil.copytree(folders("vit"), copy)
    spec = extractors.ExtractorSpec.from_json(extractor.spec.to_json())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved = extractors.rebuild(spec, model=str(copy))
    assert moved.spec == extractor.spec
    assert moved.spec.fingerprint == extractor.spec.fingerprint
    assert str(folders("vit")) not in str(extractor.spec.parameters)
    assert np.array_equal(through(moved, photo), through(extractor, photo))  # type: ignore[arg-type]
    settings = (copy / "preprocessor_config.json").read_text().replace("0.48", "0.47")
    (copy / "preprocessor_config.json").write_text(settings)
    with pytest.raises(extractors.ToolError, match=r"have the SHA-256 [0-9a-f]{64}, but [0-9a-f]{64} is required"):
        extractors.rebuild(spec, model=str(copy))


@pytest.mark.parametrize("change", [{"pooling": "mean"}, {"frames_per_second": 1.0}, {"max_side_pixels": 640}])
def test_what_changes_numbers_changes_the_fingerprint(folders: Callable, change: dict) -> None:
    usual = TransformerVision(model=str(folders("vit"))).spec
    assert TransformerVision(model=str(folders("vit")), **change).spec.fingerprint != usual.fingerprint
    assert TransformerVision(model=str(folders("vit")), batch_size=3, device="cpu").spec == usual


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pooling": "max"}, r"pooling must be one of \('cls', 'mean', 'pooled'\), not 'max'"),
        ({"frames_per_second": 0}, "frames_per_second must be a number from 0.1 to 120, not 0"),
        ({"batch_size": 0}, "batch_size must be a number from 1 to 4096, not 0"),
        ({"max_side_pixels": 10}, "max_side_pixels must be a number from 64 to 8192, not 10"),
    ],
)
def test_parameters_are_checked(folders: Callable, parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerVision(model=str(folders("vit")), **parameters)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.usefixtures("torchvision")
class TestPreparedOnTheDevice:
    """`preparation="torch"`, on the CPU: the very operations that run where frames of a GPU lie."""

    @pytest.mark.parametrize("kind", ["vit", "clip", "registers", "convnext"])
    def test_pixels_are_pillows_to_two_grey_levels(self, folders: Callable, photo: np.ndarray, kind: str) -> None:
        """What the model reads, given arrays or tensors; a level is 1/255 over the processor's standard deviation."""
        pooling = "mean" if kind == "convnext" else "cls"
        source = pretrained.find(str(folders(kind)), None).source
        theirs = prepared(folders(kind), photo)[0]
        encoder = ImageEncoder(source, pooling, "cpu", "torch")
        for given in (photo, torch.from_numpy(photo)):
            (ours,) = encoder._prepare([given])
            assert ours.shape == theirs.shape
            apart = (ours - theirs).abs() * 255 * 0.28
            assert apart.max() <= 2.2
            assert apart.mean() < 0.5

    @pytest.mark.parametrize("kind", ["vit", "clip", "registers"])
    def test_encoded_like_a_plain_forward_pass(self, folders: Callable, photo: np.ndarray, kind: str) -> None:
        """Of transformers' own processor of that form, with frames of several sizes in a batch."""
        frames = [photo, photo[::-1].copy(), photo[:, :50].copy(), photo[:40].copy()]
        extractor = TransformerVision(model=str(folders(kind)), preparation="torch")
        found = through(extractor, *map(torch.from_numpy, frames))
        processor = transformers.AutoImageProcessor.from_pretrained(folders(kind), backend="torchvision")
        whole = transformers.AutoModel.from_pretrained(folders(kind)).eval()
        model = whole.vision_model if kind == "clip" else whole
        for row, frame in zip(found, frames, strict=True):
            with torch.no_grad():
                expected = model(processor(Image.fromarray(frame), return_tensors="pt")["pixel_values"])
            assert np.allclose(row, expected.last_hidden_state[0, 0].numpy(), atol=1e-5)

    def test_frames_of_a_video(self, folders: Callable, media: Callable[..., Path], astronaut: np.ndarray) -> None:
        """From the file's planes to features: near Pillow's and not the same, and never taken for them."""
        cut = np.ascontiguousarray(astronaut[:240, 100:420])
        path = media("a.mp4", frames=[cut] * 25)
        pillow = extractors.build("vision.transformers", model=str(folders("vit")))
        ours = extractors.build("vision.transformers", model=str(folders("vit")), preparation="torch", device="cpu")
        assert (pillow.frames_device, ours.frames_device) == (None, "cpu")
        theirs, found = (extractors.extract(path, {"vision": e}).sequences["vision"] for e in (pillow, ours))
        assert np.array_equal(found.times, theirs.times)
        assert 0 < np.abs(found.values - theirs.values).max() < 0.1 * np.abs(theirs.values).max()
        assert ours.spec.parameters["preparation"] == "torch"
        assert ours.spec.fingerprint != pillow.spec.fingerprint
        again = extractors.rebuild(ours.spec)
        assert again.spec == ours.spec
        assert again.frames_device is not None
        assert np.allclose(
            extractors.extract(path, {"vision": again}).sequences["vision"].values, found.values, atol=1e-4
        )


def test_pillow_keeps_the_fingerprint_that_stores_know(folders: Callable) -> None:
    plain = TransformerVision(model=str(folders("vit")))
    assert plain.spec == TransformerVision(model=str(folders("vit")), preparation="pillow").spec
    assert "preparation" not in plain.spec.parameters


def test_preparations_that_are_none(folders: Callable) -> None:
    with pytest.raises(ValueError, match=r"preparation must be one of \('pillow', 'torch'\), not 'opencv'"):
        TransformerVision(model=str(folders("vit")), preparation="opencv")


def test_without_torchvision(folders: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extractors.vision.transformer.find_spec", lambda name: None)
    extractor = TransformerVision(model=str(folders("vit")), preparation="torch")
    with pytest.raises(extractors.ToolError, match=r"needs torchvision, .*: pip install 'mmsa-framework\[gpu\]'"):
        extractor.stream()


def test_transformers_falling_back_by_itself_is_noticed(folders: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives the Pillow form with no more than a line in the log where it has no other."""
    load = pretrained.load

    def only_pillow(what: str, kind: str, source: pretrained.Source, **options: object) -> object:
        return load(what, kind, source, **{**options, "backend": "pil"})

    monkeypatch.setattr("extractors.vision.transformer.find_spec", lambda name: object())
    monkeypatch.setattr(pretrained, "load", only_pillow)
    extractor = TransformerVision(model=str(folders("vit")), preparation="torch")
    with pytest.raises(extractors.ToolError, match=r"ViTImageProcessorPil\) in no form for torch: set preparation to"):
        extractor.stream()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.usefixtures("torchvision")
def test_a_film_never_leaves_the_gpu(folders: Callable, media: Callable[..., Path], astronaut: np.ndarray) -> None:
    """Not run yet: written on a machine without a GPU. NVDEC, colours, preparation and encoder on one device."""
    path = media("a.mp4", frames=[np.ascontiguousarray(astronaut[:240, 100:420])] * 25)
    seen: list[str] = []

    def build(device: str) -> TransformerVision:
        return TransformerVision(model=str(folders("vit")), preparation="torch", device=device)

    on_gpu = build("cuda")
    on_gpu.stream().close()
    encode = on_gpu._encoder.encode
    on_gpu._encoder.encode = lambda images: seen.extend(str(i.device) for i in images) or encode(images)
    found = extractors.extract(path, {"vision": on_gpu}, device="cuda")
    expected = extractors.extract(path, {"vision": build("cpu")}, device="cpu")
    assert found.notes == ()
    assert seen == ["cuda:0", "cuda:0"]
    assert np.allclose(found.sequences["vision"].values, expected.sequences["vision"].values, atol=0.02)
