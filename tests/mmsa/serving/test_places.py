from __future__ import annotations

from pathlib import Path

import pytest

from mmsa.errors import UsageError
from mmsa.serving.places import allowed_file, check_size, uploaded
from mmsa.serving.settings import ServeSettings

OUTSIDE = "does not lie below the folders that this model reads; MMSA_SERVE_ROOTS"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "clip.wav").write_bytes(b"x" * 100)
    return folder.resolve()


@pytest.fixture
def settings(root: Path) -> ServeSettings:
    return ServeSettings(roots=(root,), max_megabytes=0.001)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.wav"
    path.write_bytes(b"secret")
    return path


def test_files_below_a_root_are_found_from_it_or_by_their_whole_path(root: Path, settings: ServeSettings) -> None:
    clip = root / "inner" / "clip.wav"
    assert allowed_file(str(clip), settings) == clip
    assert allowed_file("inner/clip.wav", settings) == clip
    (root / "link.wav").symlink_to(clip)
    assert allowed_file("link.wav", settings) == clip


def test_a_relative_path_is_looked_for_in_every_root(root: Path, tmp_path: Path) -> None:
    other = (tmp_path / "other").resolve()
    other.mkdir()
    both = ServeSettings(roots=(other, root))
    assert allowed_file("inner/clip.wav", both) == root / "inner" / "clip.wav"
    assert allowed_file("nonesuch.wav", both) == other / "nonesuch.wav"  # reading it says that it is not there


@pytest.mark.parametrize("given", ["{secret}", "../secret.wav", "inner/../../secret.wav", "inner/../inner/clip.wav"])
def test_what_lies_elsewhere_is_refused(given: str, secret: Path, settings: ServeSettings) -> None:
    with pytest.raises(UsageError, match=OUTSIDE):
        allowed_file(given.format(secret=secret), settings)


def test_a_refusal_is_the_same_whether_the_file_is_there_or_not(secret: Path, settings: ServeSettings) -> None:
    told = []
    for path in (secret, secret.with_name("nonesuch.wav")):
        with pytest.raises(UsageError, match=OUTSIDE) as caught:
            allowed_file(str(path), settings)
        told.append(str(caught.value).removeprefix(str(path)))
    assert told[0] == told[1]


def test_a_folder_whose_name_begins_like_a_roots_is_no_root(root: Path, settings: ServeSettings) -> None:
    beside = root.with_name("media-private")
    beside.mkdir()
    (beside / "clip.wav").write_bytes(b"x")
    with pytest.raises(UsageError, match=OUTSIDE):
        allowed_file(str(beside / "clip.wav"), settings)


def test_links_that_lead_out_are_refused(root: Path, secret: Path, settings: ServeSettings) -> None:
    (root / "file.wav").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent, target_is_directory=True)
    for given in ("file.wav", "folder/secret.wav"):
        with pytest.raises(UsageError, match=OUTSIDE):
            allowed_file(given, settings)
    (root / "loop.wav").symlink_to(root / "loop.wav")
    with pytest.raises(UsageError, match=OUTSIDE):
        allowed_file("loop.wav", settings)


def test_a_transcript_that_is_a_link_out_is_refused(root: Path, secret: Path, settings: ServeSettings) -> None:
    (root / "inner" / "clip.txt").symlink_to(secret)
    with pytest.raises(UsageError, match="the transcript beside it does not lie below the folders"):
        allowed_file("inner/clip.wav", settings)


@pytest.mark.parametrize("given", ["http://host/clip.wav", "s3://bucket/clip.wav", "file:///etc/passwd", "a::b://c"])
def test_addresses_are_refused(given: str, settings: ServeSettings) -> None:
    with pytest.raises(UsageError, match="addresses are not taken"):
        allowed_file(given, settings)


@pytest.mark.parametrize("given", ["x\0.wav", "a" * 5000])
def test_names_that_no_file_can_have_are_refused(given: str, settings: ServeSettings) -> None:
    with pytest.raises(UsageError, match=OUTSIDE):
        allowed_file(given, settings)


def test_without_roots_no_path_is_taken(root: Path) -> None:
    with pytest.raises(UsageError, match=r"no paths are taken, only uploads .*MMSA_SERVE_ROOTS"):
        allowed_file(str(root / "inner" / "clip.wav"), ServeSettings())


def test_a_file_too_large_is_refused(root: Path, settings: ServeSettings) -> None:
    (root / "long.wav").write_bytes(b"x" * 1001)
    with pytest.raises(UsageError, match=r"long\.wav: 0\.0 MB, but at most 0\.001 MB .*MMSA_SERVE_MAX_MEGABYTES"):
        allowed_file("long.wav", settings)
    (root / "inner" / "clip.srt").write_bytes(b"x" * 1001)
    with pytest.raises(UsageError, match=r"the transcript beside inner/clip\.wav: 0\.0 MB"):
        allowed_file("inner/clip.wav", settings)


def test_an_upload_lies_alone_and_only_as_long_as_it_is_needed(settings: ServeSettings) -> None:
    with uploaded(b"bytes", settings) as path:
        assert path.read_bytes() == b"bytes"
        assert list(path.parent.iterdir()) == [path]
        folder = path.parent
    assert not folder.exists()
    with pytest.raises(UsageError, match=r"the upload: 0\.0 MB"), uploaded(b"x" * 1001, settings):
        pass


def test_the_limit_itself_is_allowed() -> None:
    check_size(2_000_000, "it", ServeSettings(max_megabytes=2))
    with pytest.raises(UsageError, match=r"it: 2\.0 MB, but at most 2 MB"):
        check_size(2_000_001, "it", ServeSettings(max_megabytes=2))
