from __future__ import annotations

from collections.abc import Iterator

import fsspec
import pytest

from mmsa.errors import UsageError
from mmsa.scoring.inputs import gather
from mmsa.scoring.remote import check_address, fetched, is_address, stamp


@pytest.fixture
def bucket() -> Iterator[str]:
    system = fsspec.filesystem("memory")
    for name, content in (("a2.mp4", b"two"), ("a10.mp4", b"ten!"), ("a2.srt", b"words"), ("deep/b.wav", b"x")):
        system.pipe(f"/bucket/{name}", content)
    yield "memory://bucket"
    system.rm("/bucket", recursive=True)


def test_a_file_comes_with_its_sidecar_and_goes_again(bucket: str) -> None:
    with fetched(f"{bucket}/a2.mp4", (".srt", ".vtt"), 1.0) as local:
        assert local.read_bytes() == b"two"
        assert local.suffix == ".mp4"
        assert local.with_suffix(".srt").read_bytes() == b"words"
    assert not local.parent.exists()


def test_a_file_that_is_too_large_is_refused(bucket: str) -> None:
    with pytest.raises(UsageError, match=r"larger than 3e-06 MB"), fetched(f"{bucket}/a10.mp4", (), 3e-6):
        pass


def test_a_file_that_is_not_there_is_said(bucket: str) -> None:
    with pytest.raises(UsageError, match="no such file"), fetched(f"{bucket}/gone.mp4", (), 1.0):
        pass


def test_folders_and_patterns_are_listed_in_natural_order(bucket: str) -> None:
    def names(given: str) -> list[str]:
        return [item.path.rsplit("/", 1)[-1] for item in gather([given]).items]

    assert names(f"{bucket}/") == ["a2.mp4", "a10.mp4", "b.wav"]
    assert names(f"{bucket}/*.mp4") == ["a2.mp4", "a10.mp4"]


def test_a_stamp_changes_with_the_file(bucket: str) -> None:
    before = stamp(f"{bucket}/a2.mp4")
    fsspec.filesystem("memory").pipe("/bucket/a2.mp4", b"three")
    assert stamp(f"{bucket}/a2.mp4") != before
    assert stamp(f"{bucket}/gone.mp4")[0] == "unreachable"


@pytest.mark.parametrize(
    ("address", "allow", "message"),
    [
        ("http://a/b.mp4", False, "needs --allow-remote"),
        ("sftp://a/b.mp4", False, "needs --allow-remote"),
        ("simplecache::s3://a/b.mp4", True, "chained protocols"),
        ("file:///etc/passwd", True, "give a local file by its path, /etc/passwd"),
    ],
)
def test_addresses_that_are_not_allowed(address: str, allow: bool, message: str) -> None:
    assert is_address(address)
    with pytest.raises(UsageError, match=message):
        check_address(address, allow_remote=allow)


def test_addresses_that_are_allowed() -> None:
    check_address("s3://bucket/a.mp4", allow_remote=False)
    check_address("https://host/a.mp4", allow_remote=True)
    assert not is_address("clip::one.mp4")
    assert not is_address("/a/b.mp4")
