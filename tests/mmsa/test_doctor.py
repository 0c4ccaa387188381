from __future__ import annotations

import json
import sys
from collections import namedtuple
from pathlib import Path

import pytest

import mmsa.doctor
from mmsa.doctor import ADVICE, CHECKS, Finding, examine


def finding(name: str) -> Finding:
    return CHECKS[name]()


def test_every_check_answers_under_its_own_name(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine where the test suite runs, nothing that it needs is broken."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    found = list(examine())
    assert [item.name for item in found] == list(CHECKS)
    assert [item for item in found if item.status == "broken"] == []


def test_advice_is_for_checks_that_exist() -> None:
    assert set(ADVICE) <= set(CHECKS)


def test_a_check_that_fails_is_a_finding_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Finding:
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(mmsa.doctor, "CHECKS", {"face": broken, "python": CHECKS["python"]})
    face, python = examine()
    assert face == Finding("face", "broken", "ImportError: libGL.so.1: cannot open shared object file", ADVICE["face"])
    assert python.name == "python"
    assert json.loads(json.dumps(face.to_dict()))["status"] == "broken"


@pytest.mark.parametrize(
    ("version", "status"), [((3, 10), "broken"), ((3, 11), "ok"), ((3, 12), "ok"), ((3, 13), "broken")]
)
def test_python_is_checked_against_what_is_supported(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int], status: str
) -> None:
    monkeypatch.setattr(sys, "version_info", (*version, 0))
    found = finding("python")
    assert found.status == status
    assert bool(found.advice) == (status == "broken")


def test_missing_codecs_limit_what_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"hevc", "av1"})
    found = finding("media")
    assert found.status == "limited"
    assert "cannot read hevc, av1" in found.found


def test_a_full_disk_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(0, 0, 2**30))
    found = finding("cache")
    assert found.status == "limited"
    assert found.found == f"{tmp_path / 'cache'}, 1 GiB free"


def test_an_unwritable_cache_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MMSA_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(mmsa.doctor, "CHECKS", {"cache": CHECKS["cache"]})
    (found,) = examine()
    assert found.status == "broken"
    assert found.advice == "set MMSA_CACHE to a folder you can write to"


def test_a_hub_that_is_switched_off_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert finding("encoders").status == "limited"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert finding("encoders").status == "ok"


def test_the_corpora_folder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSA_DATA", "/somewhere")
    assert "MMSA_DATA is /somewhere" in finding("corpora").found
    monkeypatch.delenv("MMSA_DATA")
    assert "give folders with --root" in finding("corpora").found


class TestDecoding:
    def test_without_a_gpu_the_cpu_does_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        monkeypatch.setattr("extractors.decoding.why_not", lambda device: "Cannot load libcuda.so.1")
        found = finding("decoding")
        assert (found.status, found.advice) == ("ok", "")
        assert found.found == "on the CPU: torch finds no CUDA device, and FFmpeg says: Cannot load libcuda.so.1"

    @pytest.mark.parametrize(
        ("answers", "status", "told"),
        [
            ({}, "ok", "NVDEC decodes h264, hevc, vp9"),
            (
                {"vp9": "Hardware is lacking required capabilities"},
                "ok",
                "NVDEC decodes h264, hevc; vp9 on the CPU (Hardware is lacking required capabilities)",
            ),
            (
                dict.fromkeys(("h264", "hevc", "vp9"), "Cannot load libnvcuvid.so.1"),
                "limited",
                "NVDEC decodes nothing; h264 on the CPU (Cannot load libnvcuvid.so.1); "
                "hevc on the CPU (Cannot load libnvcuvid.so.1); vp9 on the CPU (Cannot load libnvcuvid.so.1)",
            ),
        ],
    )
    def test_with_a_gpu_it_is_tried(
        self, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str], status: str, told: str
    ) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("extractors.decoding_check.try_nvdec", lambda codec: answers.get(codec, ""))
        found = finding("decoding")
        assert (found.status, found.found) == (status, told)
        assert ("NVIDIA_DRIVER_CAPABILITIES" in found.advice) == (status == "limited")
