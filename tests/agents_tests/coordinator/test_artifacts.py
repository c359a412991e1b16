import errno
import os

import pytest

from agents.coordinator.artifacts import ArtifactCache, ArtifactError
from agents.coordinator.http import CoordinatorUnavailable, HttpClient
from agents.protocol import ArtifactRef
from tests.agents_tests.fakes import ref_of

CONTENT = bytes(range(256)) * 40
REF = ArtifactRef(**ref_of(CONTENT))


@pytest.fixture
def link(coordinator):
    coordinator.secret = "s"
    coordinator.artifacts[REF.sha256] = CONTENT
    link = HttpClient(coordinator.url, "s")
    yield link
    link.close()


@pytest.fixture
def cache(tmp_path):
    return ArtifactCache(str(tmp_path / "artifacts"))


def content_of(path):
    with open(path, "rb") as stream:
        return stream.read()


def test_a_file_is_downloaded_once(coordinator, link, cache):
    assert content_of(cache.path(REF, link)) == CONTENT
    assert cache.path(REF, link) == cache.path(REF, link)
    assert len(coordinator.requests) == 1


def test_an_interrupted_download_is_resumed(coordinator, link, cache):
    coordinator.cut_after = 1000
    with pytest.raises(CoordinatorUnavailable):
        cache.path(REF, link)
    assert content_of(cache.path(REF, link)) == CONTENT
    assert coordinator.requests[-1][2]["Range"] == "bytes=1000-"


def test_a_wrong_part_is_discarded_and_downloaded_again(coordinator, link, cache, tmp_path):
    (tmp_path / "artifacts" / (REF.sha256 + ".part")).write_bytes(b"x" * 1000)
    assert content_of(cache.path(REF, link)) == CONTENT
    assert len(coordinator.requests) == 2


def test_a_damaged_file_in_the_cache_is_downloaded_again(link, cache):
    path = cache.path(REF, link)
    with open(path, "r+b") as stream:
        stream.write(b"damage")
    assert content_of(cache.path(REF, link)) == CONTENT


def test_content_with_another_digest_is_refused(coordinator, link, cache, tmp_path):
    coordinator.artifacts[REF.sha256] = b"y" * len(CONTENT)
    with pytest.raises(ArtifactError, match=REF.sha256):
        cache.path(REF, link)
    assert os.listdir(str(tmp_path / "artifacts")) == []


def test_a_missing_artifact_is_named(coordinator, link, cache):
    coordinator.artifacts.clear()
    with pytest.raises(ArtifactError, match="no such artifact") as caught:
        cache.path(REF, link)
    assert caught.value.reason == "artifact"


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "g" * 64, "A" * 64])
def test_an_invalid_digest_never_becomes_a_path(link, cache, sha256):
    with pytest.raises(ArtifactError, match="not a sha256"):
        cache.path(ArtifactRef(sha256, 1), link)


def test_a_full_disk_is_reported(link, cache, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="No space left") as caught:
        cache.path(REF, link)
    assert caught.value.reason == "disk"


def test_the_cache_evicts_files_but_not_those_in_use(tmp_path):
    cache = ArtifactCache(str(tmp_path), limit_bytes=250)
    for age, name in enumerate(["newest", "middle", "oldest", "needed"]):
        (tmp_path / name).write_bytes(b"x" * 100)
        os.utime(str(tmp_path / name), (1000 - age, 1000 - age))
    cache.trim(["needed"])
    assert sorted(os.listdir(str(tmp_path))) == ["needed", "newest"]
