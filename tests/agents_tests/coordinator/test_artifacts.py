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


def test_a_download_that_broke_off_goes_on_where_it_was(coordinator, link, cache):
    coordinator.cut_after = 1000
    with pytest.raises(CoordinatorUnavailable):
        cache.path(REF, link)
    assert content_of(cache.path(REF, link)) == CONTENT
    assert coordinator.requests[-1][2]["Range"] == "bytes=1000-"


def test_a_wrong_part_is_thrown_away_and_fetched_anew(coordinator, link, cache, tmp_path):
    (tmp_path / "artifacts" / (REF.sha256 + ".part")).write_bytes(b"x" * 1000)
    assert content_of(cache.path(REF, link)) == CONTENT
    assert len(coordinator.requests) == 2


def test_a_damaged_file_in_the_cache_is_fetched_anew(link, cache):
    path = cache.path(REF, link)
    with open(path, "r+b") as stream:
        stream.write(b"damage")
    assert content_of(cache.path(REF, link)) == CONTENT


def test_other_content_than_asked_for_is_refused(coordinator, link, cache, tmp_path):
    coordinator.artifacts[REF.sha256] = b"y" * len(CONTENT)
    with pytest.raises(ArtifactError, match=REF.sha256):
        cache.path(REF, link)
    assert os.listdir(str(tmp_path / "artifacts")) == []


def test_an_artifact_that_is_not_there_names_itself(coordinator, link, cache):
    coordinator.artifacts.clear()
    with pytest.raises(ArtifactError, match="no such artifact") as caught:
        cache.path(REF, link)
    assert caught.value.reason == "artifact"


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "g" * 64, "A" * 64])
def test_what_is_no_digest_never_becomes_a_path(link, cache, sha256):
    with pytest.raises(ArtifactError, match="not a sha256"):
        cache.path(ArtifactRef(sha256, 1), link)


def test_a_full_disk_says_so(link, cache, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="No space left") as caught:
        cache.path(REF, link)
    assert caught.value.reason == "disk"


def test_the_cache_keeps_its_bound_but_never_drops_what_is_needed(tmp_path):
    cache = ArtifactCache(str(tmp_path), limit_bytes=250)
    for age, name in enumerate(["newest", "middle", "oldest", "needed"]):
        (tmp_path / name).write_bytes(b"x" * 100)
        os.utime(str(tmp_path / name), (1000 - age, 1000 - age))
    cache.trim(["needed"])
    assert sorted(os.listdir(str(tmp_path))) == ["needed", "newest"]
