from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmsa.corpora.csd_sequences import open_sequences
from mmsa.errors import UsageError

# Names as the SDK's recipes and older releases have them: sequence, file, role.
KNOWN = [
    ("Opinion Segment Labels", "CMU_MOSI_Opinion_Labels", "labels"),
    ("All Labels", "CMU_MOSEI_Labels", "labels"),
    ("words", "CMU_MOSI_TimestampedWords", "words"),
    ("CMU_MOSI_ModifiedTimestampedWords", "a", "words"),
    ("glove_vectors", "CMU_MOSEI_TimestampedWordVectors", "text"),
    ("glove_vectors", "CMU_MOSEI_TimestampedGloveVectors_with_SP", "text"),
    ("COVAREP", "CMU_MOSI_COVAREP", "audio"),
    ("OpenSMILE", "CMU_MOSI_openSMILE_IS09", "audio"),
    ("FACET_4.1", "CMU_MOSI_Visual_Facet_41", "vision"),
    ("OpenFace_2", "CMU_MOSEI_VisualOpenFace2", "vision"),
]


@pytest.fixture
def write(csd: Any, tmp_path: Path) -> Any:
    def written(name: str, file: str, role: str) -> None:
        words = csd.words(("so", 0.0, 1.0))
        csd.write(tmp_path / f"{file}.csd", name, {"v": words if role == "words" else csd.steps([[1.0]], 0.0, 1.0)})

    return written


@pytest.mark.parametrize(("name", "file", "role"), KNOWN)
def test_a_sequence_is_told_by_its_name_or_its_file_s(
    write: Any, tmp_path: Path, name: str, file: str, role: str
) -> None:
    write("phones", "CMU_MOSI_TimestampedPhones", "words")
    if role != "labels":
        write("Opinion Segment Labels", "CMU_MOSI_Opinion_Labels", "labels")
    write(name, file, role)
    with open_sequences(tmp_path) as found:
        held = {"labels": found.labels, "words": found.words, **found.features}
        assert getattr(held[role], "name", None) == name
        assert found.unread == ("phones (CMU_MOSI_TimestampedPhones.csd)",)
        assert set(found.features) == {role} - {"labels", "words"}


def test_of_several_that_fit_one_must_be_chosen(write: Any, tmp_path: Path) -> None:
    write("Labels", "labels", "labels")
    write("FACET_4.2", "facet", "vision")
    write("OpenFace_2", "openface", "vision")
    with (
        pytest.raises(
            UsageError,
            match=r"vision could be FACET_4\.2 \(facet\.csd\) or OpenFace_2 \(openface\.csd\): "
            r"choose with --use vision='FACET_4\.2'; another may be kept as a modality of its own: --use NAME=SEQUENCE",
        ),
        open_sequences(tmp_path),
    ):
        pass
    with open_sequences(tmp_path, {"vision": "FACET_4.2"}) as found:
        assert {key: s.name for key, s in found.features.items()} == {"vision": "FACET_4.2"}
        assert found.unread == ("OpenFace_2 (openface.csd)",)
    with open_sequences(tmp_path, {"vision": "openface.csd", "facs": "facet"}) as found:
        assert {key: s.name for key, s in found.features.items()} == {"vision": "OpenFace_2", "facs": "FACET_4.2"}
        assert found.unread == ()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ({"vision": "gone"}, r"no sequence is called 'gone'; there are Labels \(labels\.csd\), FACET \(vision\.csd\)"),
        ({"a b": "FACET"}, "a modality's name is made of letters"),
        ({"words": "FACET"}, r"FACET \(vision\.csd\) holds numbers, which are not words"),
        ({"labels": "FACET"}, None),
    ],
)
def test_what_is_chosen_must_be_there_and_fit(write: Any, tmp_path: Path, use: Any, message: str | None) -> None:
    write("Labels", "labels", "labels")
    write("FACET", "vision", "vision")
    if message is None:
        with open_sequences(tmp_path, use) as found:
            assert found.labels.name == "FACET"
        return
    with pytest.raises(UsageError, match=message), open_sequences(tmp_path, use):
        pass


def test_labels_are_needed(write: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no \.csd files"), open_sequences(tmp_path):
        pass
    write("FACET", "vision", "vision")
    with (
        pytest.raises(UsageError, match=r"none of FACET \(vision\.csd\) in .* is called labels: say which is"),
        open_sequences(tmp_path),
    ):
        pass
