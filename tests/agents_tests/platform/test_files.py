"""Durable files, and a folder's lock that outlives the program that took it."""

import os
import subprocess
import sys

import pytest

from agents.platform.files import SpoolInUse, lock_folder, write_durably
from tests.agents_tests.fakes import ROOT

BEFORE = """
import os, sys
from agents.platform.files import lock_folder
lock = lock_folder(sys.argv[1])
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], sys.argv[1],
                          str(lock.keep_over_exec()), sys.argv[3]])
"""
AFTER = """
import subprocess, sys
from agents.platform.files import lock_folder
folder, kept = sys.argv[1], int(sys.argv[2])
other = [sys.executable, "-c", sys.argv[3], folder]
print(subprocess.call(other), flush=True)
lock = lock_folder(folder, kept)
print(subprocess.call(other, close_fds=False), flush=True)
lock.release()
print(subprocess.call(other), flush=True)
"""
OTHER = """
import sys
from agents.platform.files import SpoolInUse, lock_folder
try:
    lock_folder(sys.argv[1])
except SpoolInUse:
    sys.exit(7)
"""


def test_writing_leaves_no_partial_file(tmp_path, monkeypatch):
    path = str(tmp_path / "x")
    write_durably(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError):
        write_durably(path, b"new")
    assert os.listdir(str(tmp_path)) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_a_folder_has_one_agent(tmp_path):
    lock = lock_folder(str(tmp_path))
    with pytest.raises(SpoolInUse, match="--spool"):
        lock_folder(str(tmp_path))
    lock.release()
    lock_folder(str(tmp_path)).release()


def test_the_lock_is_held_from_one_program_to_the_next(tmp_path):
    """Nobody can take the folder between the old program and the new one."""
    said = subprocess.run([sys.executable, "-c", BEFORE, str(tmp_path), AFTER, OTHER], cwd=ROOT,
                          stdout=subprocess.PIPE, check=True).stdout
    assert said.split() == [b"7", b"7", b"0"]


def test_a_descriptor_of_something_else_is_not_taken_for_the_lock(tmp_path):
    with open(str(tmp_path / "other"), "w") as other:
        lock = lock_folder(str(tmp_path), other.fileno())
        with pytest.raises(SpoolInUse):
            lock_folder(str(tmp_path))
        lock.release()
        other.write("still open")
    lock_folder(str(tmp_path), 987654).release()
