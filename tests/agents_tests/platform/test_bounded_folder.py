"""What artifacts and engines share: eviction by last use."""

import os

import pytest

from agents.platform.bounded_folder import evict, file_sha256, mark_used


@pytest.fixture
def folder(tmp_path):
    for age, name in enumerate(["new.engine", "old.engine", "oldest.engine", "timing.cache"]):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(str(tmp_path / name), (1000 - age, 1000 - age))
    return tmp_path


def test_the_least_recently_used_goes_first(folder):
    evict(str(folder), 300, lambda name: False)
    assert sorted(os.listdir(str(folder))) == ["new.engine", "old.engine", "oldest.engine"]


def test_pinned_files_stay_and_count(folder):
    evict(str(folder), 150, lambda name: name == "oldest.engine", ".engine")
    assert sorted(os.listdir(str(folder))) == ["oldest.engine", "timing.cache"]


def test_using_a_file_makes_it_the_newest(folder):
    mark_used(str(folder / "oldest.engine"))
    evict(str(folder), 100, lambda name: False, ".engine")
    assert sorted(os.listdir(str(folder))) == ["oldest.engine", "timing.cache"]
    with pytest.raises(FileNotFoundError):
        mark_used(str(folder / "absent"))


def test_a_digest_is_that_of_the_content(folder):
    assert file_sha256(str(folder / "new.engine")) == (
        "cd00e292c5970d3c5e2f0ffa5171e555bc46bfc4faddfb4a418b6840b86e79a3")
