"""Blendshapes through MediaPipe's own graph, from a `.task` file whose models are written here.

Google's file cannot be had offline. This one holds the wheel's face detector, a landmark model that answers with the
canonical face whatever it is shown, and a blendshape model that measures how far two landmarks are apart.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import extractors
from extractors.facial.blendshapes import BLENDSHAPE_NAMES, has_blendshapes, scores
from extractors.facial.canonical import canonical_face
from extractors.facial.face_view import FaceView
from extractors.facial.facemesh import FaceMesh
from extractors.facial.landmarks import TaskSource

RNG = np.random.default_rng(0)
BASE, GAIN = RNG.uniform(0.2, 0.6, 52), RNG.uniform(0.0005, 0.002, 52)
ROWS = 146  # of the 478 landmarks, in their order, with the irises' ten at the end
FIRST, LAST = 0, ROWS - 1  # of these rows: landmarks 0 and 477


class _Network:
    """A network in TensorFlow Lite's format, layer by layer."""

    def __init__(self) -> None:
        from mediapipe.tasks.metadata import schema_py_generated

        self.schema: Any = schema_py_generated
        self.tensors: list[Any] = []
        self.buffers = [self.schema.BufferT()]
        self.operators: list[Any] = []
        self.codes: list[int] = []

    def tensor(self, shape: Sequence[int], data: np.ndarray | None = None) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = f"tensor_{len(self.tensors)}", list(shape), 0
        kinds = self.schema.TensorType
        tensor.type = kinds.INT32 if data is not None and data.dtype == np.int32 else kinds.FLOAT32
        if data is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def layer(self, kind: str, inputs: list[int], shape: Sequence[int], options: str) -> int:
        output, code = self.tensor(shape), getattr(self.schema.BuiltinOperator, kind)
        if code not in self.codes:
            self.codes.append(code)
        operator = self.schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = self.codes.index(code), inputs, [output]
        operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
        operator.builtinOptions = getattr(self.schema, f"{options}T")()
        self.operators.append(operator)
        return output

    def constant(self, values: np.ndarray) -> int:
        return self.tensor(values.shape, values)

    def reshape(self, tensor: int, shape: Sequence[int]) -> int:
        return self.layer("RESHAPE", [tensor, self.constant(np.array(shape, np.int32))], shape, "ReshapeOptions")

    def linear(self, tensor: int, weights: np.ndarray, bias: np.ndarray) -> int:
        parts = [self.constant(weights.astype(np.float32)), self.constant(bias.astype(np.float32))]
        return self.layer("FULLY_CONNECTED", [tensor, *parts], [1, len(bias)], "FullyConnectedOptions")

    def written(self, inputs: list[int], outputs: list[int]) -> bytes:
        import flatbuffers

        graph, model = self.schema.SubGraphT(), self.schema.ModelT()
        graph.name, graph.tensors, graph.operators = "main", self.tensors, self.operators
        graph.inputs, graph.outputs = inputs, outputs
        model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], self.buffers, []
        for code in self.codes:
            entry = self.schema.OperatorCodeT()
            entry.builtinCode = entry.deprecatedBuiltinCode = code
            entry.version = 1
            model.operatorCodes.append(entry)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def landmark_model() -> bytes:
    """Of a crop of 256 by 256: the canonical face in its middle, and that a face is there."""
    network, face = _Network(), np.nan_to_num(canonical_face())
    points = np.stack([128 + 60 * face[:, 0], 128 - 60 * face[:, 1], -60 * face[:, 2]], axis=1)
    image = network.tensor([1, 256, 256, 3])
    mean = network.layer("MEAN", [image, network.constant(np.array([1, 2], np.int32))], [1, 3], "ReducerOptions")
    flat = network.linear(mean, np.zeros((3 * len(points), 3)), points.ravel())
    presence = network.linear(mean, np.zeros((1, 3)), np.array([8.0]))
    return network.written(
        [image], [network.reshape(flat, [1, 1, 1, 3 * len(points)]), network.reshape(presence, [1, 1, 1, 1])]
    )


def blendshape_model() -> bytes:
    """`BASE + GAIN * (y of the last landmark - y of the first)`, in pixels; one of them is below 0."""
    network, weights = _Network(), np.zeros((52, ROWS, 2))
    weights[:, LAST, 1], weights[:, FIRST, 1] = GAIN, -GAIN
    bias = BASE.copy()
    bias[5] = -1000.0
    points = network.tensor([1, ROWS, 2])
    return network.written(
        [points], [network.linear(network.reshape(points, [1, 2 * ROWS]), weights.reshape(52, -1), bias)]
    )


def described(model: bytes, mean: float, deviation: float) -> bytes:
    """With the metadata that says how pictures are normalised."""
    from mediapipe.tasks.python.metadata.metadata_writers import metadata_writer

    writer = metadata_writer.MetadataWriter.create(bytearray(model))
    writer.add_general_info("made in a test", "")
    writer.add_image_input([mean], [deviation])
    return bytes(writer.populate()[0])


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with all three models."""
    mediapipe = pytest.importorskip("mediapipe")
    wheel = Path(mediapipe.__file__).parent / "modules" / "face_detection"
    detector = (wheel / "face_detection_short_range.tflite").read_bytes()
    path = tmp_path_factory.mktemp("task") / "face_landmarker.task"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("face_detector.tflite", described(detector, 127.5, 127.5))
        archive.writestr("face_landmarks_detector.tflite", described(landmark_model(), 0.0, 255.0))
        archive.writestr("face_blendshapes.tflite", blendshape_model())
    return path


@pytest.fixture(scope="module")
def without(task: Path) -> Path:
    """The same without the model for blendshapes."""
    path = task.with_name("without.task")
    with zipfile.ZipFile(task) as whole, zipfile.ZipFile(path, "w") as archive:
        for name in ("face_detector.tflite", "face_landmarks_detector.tflite"):
            archive.writestr(name, whole.read(name))
    return path


def expected_scores(points: np.ndarray) -> np.ndarray:
    wanted = BASE + GAIN * (points[477, 1] - points[0, 1])
    wanted[5] = 0.0  # MediaPipe leaves out what is not above 0
    return wanted


def test_scores_through_mediapipe(task: Path, astronaut: np.ndarray, tmp_path: Path) -> None:
    """They follow the landmarks: from two pictures, of which one is half as large."""
    mesh = FaceMesh(landmarker_path=str(task))
    apart = []
    for number, face in enumerate((astronaut[:300, 100:400], astronaut[:300:2, 100:400:2])):
        Image.fromarray(face).save(tmp_path / f"{number}.png")
        found = extractors.extract(tmp_path / f"{number}.png", {"vision": mesh}).sequences["vision"]
        assert found.values.shape == (1, 84 + 52)
        source = mesh.open_source(blendshapes=True)
        assert isinstance(source, TaskSource)
        points = source.find(np.ascontiguousarray(face))
        source.close()
        assert points is not None
        assert source.blendshapes is not None
        assert np.allclose(source.blendshapes, expected_scores(points), atol=1e-4)
        assert np.allclose(found.values[0, 84:], expected_scores(points), atol=1e-4)
        apart.append(points[477, 1] - points[0, 1])
    assert abs(apart[0]) > 1.5 * abs(apart[1]) > 5


def test_nothing_is_written_to_the_error_stream(task: Path, astronaut: np.ndarray) -> None:
    """MediaPipe's graph writes when it is made and when it first runs; in a process of its own, where that is now."""
    script = (
        "import sys, numpy as np\n"
        "from extractors.facial.facemesh import FaceMesh\n"
        "stream = FaceMesh(landmarker_path=sys.argv[1]).stream()\n"
        "stream.push(np.load(sys.argv[2]), [0])\n"
        "assert stream.finish().values.shape == (1, 136)\n"
    )
    np.save(task.with_name("face.npy"), astronaut[:300, 100:400])
    command = [sys.executable, "-c", script, str(task), str(task.with_name("face.npy"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_where_the_file_has_none(without: Path, task: Path, astronaut: np.ndarray, tmp_path: Path) -> None:
    """Everything else is there, and equal."""
    Image.fromarray(astronaut[:300, 100:400]).save(tmp_path / "a.png")
    mesh = FaceMesh(landmarker_path=str(without))
    found = extractors.extract(tmp_path / "a.png", {"vision": mesh}).sequences["vision"]
    both = extractors.extract(tmp_path / "a.png", {"vision": FaceMesh(landmarker_path=str(task))}).sequences["vision"]
    assert found.names == both.names[:84] == FaceMesh().names
    assert np.array_equal(found.values, both.values[:, :84])
    assert (has_blendshapes(task), has_blendshapes(without)) == (True, False)
    (tmp_path / "no.task").write_bytes(b"no archive")
    assert not has_blendshapes(tmp_path / "no.task")


def test_crops_do_without(task: Path, astronaut: np.ndarray) -> None:
    """What only wants landmarks does not have the scores computed."""
    view = FaceView(crop_pixels=64, margin=0.1, landmarker_path=str(task))
    source = view.mesh.open_source()
    assert source.find(np.ascontiguousarray(astronaut[:300, 100:400])) is not None
    source.close()
    assert isinstance(source, TaskSource)
    assert source.blendshapes is None


def test_the_spec_tells_features_with_blendshapes_apart(task: Path, without: Path) -> None:
    mesh = FaceMesh(landmarker_path=str(task))
    assert extractors.rebuild(extractors.ExtractorSpec.from_json(mesh.spec.to_json())).names == mesh.names
    # Features that were made with such a file before had none.
    assert mesh.spec.version == FaceMesh().spec.version.replace("+1", "+2")
    assert FaceMesh(landmarker_path=str(without)).spec.version == FaceMesh().spec.version


def test_names_are_mediapipes() -> None:
    face_landmarker = pytest.importorskip("mediapipe.tasks.python.vision.face_landmarker")
    assert len(BLENDSHAPE_NAMES) == 52
    for name, shape in zip(BLENDSHAPE_NAMES, face_landmarker.Blendshapes, strict=True):
        snake = "".join("_" + letter.lower() if letter.isupper() else letter for letter in name)
        assert snake == f"blendshape_{shape.name.lower()}"


def test_scores_stand_at_their_index() -> None:
    found = scores([SimpleNamespace(index=51, score=0.25), SimpleNamespace(index=0, score=0.5)])
    assert found.dtype == np.float32
    assert dict(zip(np.flatnonzero(found), found[np.flatnonzero(found)], strict=True)) == {0: 0.5, 51: 0.25}
