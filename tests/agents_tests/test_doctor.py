"""What the doctor says of a device, and what it says to do."""

import os
import resource
import sys

import pytest

from agents import doctor
from agents.__main__ import main
from agents.capabilities import RuntimeStart
from agents.coordinator.spool import Secret, write_secret
from agents.meters.catalog import METERS
from agents.platform.files import lock_folder
from agents.platform.sysfs import SystemTree
from tests.agents_tests.coordinator.test_tls import ONE, pin
from tests.agents_tests.fakes import ROOT, WAIT_S, Coordinator

TREES = os.path.join(ROOT, "tests", "sysfs")


@pytest.fixture
def words(tmp_path):
    return ["--doctor", "--runtime", "fake", "--name", "desk", "--spool", str(tmp_path / "spool")]


def said(capsys, words):
    """(exit code, {name: (state, text, mend)})."""
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code
    found, name = {}, ""
    for line in capsys.readouterr().out.splitlines():
        state, text = line[15:23].strip(), line[24:]
        if state == "remedy:":
            found[name] = (*found[name][:2], text)
        else:
            name = line[:14].strip()
            found[name] = (state, text, "")
    return code, found


def test_it_names_everything_that_matters(capsys, words):
    code, found = said(capsys, words)
    assert code == 0
    assert list(found) == ["device", "python", "fake", "spool", "enrolment", "limits", "clock",
                           *(meter.name + " meter" for meter in METERS),
                           "clocks", "temperature", "throttling", "permissions", "updates"]
    assert {found[name][0] for name in ("device", "python", "fake", "spool", "limits")} == {"ok"}
    assert found["enrolment"] == (
        "lacks", "not enrolled from this folder",
        "fleetfront device enrol desk, on the coordinator; it prints the command to run here")


def test_a_runtime_that_is_missing_is_missing(capsys, words, monkeypatch):
    monkeypatch.setattr("agents.capabilities.start_runtime",
                        lambda *_: RuntimeStart(problem="onnxruntime cannot be imported"))
    code, found = said(capsys, [*words, "--runtime", "onnxruntime"])
    state, text, mend = found["onnxruntime"]
    assert code == 1 and (state, text) == ("MISSING", "onnxruntime cannot be imported")
    assert mend.startswith(sys.executable + " -m pip install onnxruntime")


def test_a_spool_that_cannot_be_written_is_missing(capsys, words, tmp_path):
    (tmp_path / "spool").write_text("a file is in the way")
    code, found = said(capsys, words)
    assert code == 1 and found["spool"][0] == "MISSING"
    assert "sudo chown -R" in found["spool"][2] and "--spool" in found["spool"][2]


def test_a_spool_without_room_is_missing(capsys, words, monkeypatch):
    monkeypatch.setattr(doctor, "FREE_BYTES", 1 << 62)
    code, found = said(capsys, words)
    assert code == 1 and found["spool"][0] == "MISSING" and "du -xh" in found["spool"][2]


def test_a_spool_in_use_is_ok(capsys, words, tmp_path):
    (tmp_path / "spool").mkdir()
    lock = lock_folder(str(tmp_path / "spool"))
    code, found = said(capsys, words)
    lock.release()
    assert code == 0 and "in use by an agent" in found["spool"][1]


def test_a_limit_of_cpu_time_is_missing(capsys, started, words):
    process = started("-m", "agents", *words, preexec_fn=lambda: resource.setrlimit(
        resource.RLIMIT_CPU, (600, resource.getrlimit(resource.RLIMIT_CPU)[1])))
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert "the system ends the agent after 600 s of CPU time" in output.decode()
    assert "ulimit -t unlimited" in output.decode()


def test_a_board_with_everything_has_its_files_read():
    tree = SystemTree(os.path.join(TREES, "two_cores"))
    assert doctor.temperature(tree).state == "ok" or doctor.governor(tree).state != ""
    assert doctor.permissions(tree).state == "ok"


def test_a_governor_that_varies_clocks_is_named_with_the_command(tmp_path):
    for core in ("cpu0", "cpu1"):
        folder = tmp_path / "sys/devices/system/cpu" / core / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text("schedutil\n")
    tree = SystemTree(str(tmp_path))
    one = doctor.governor(tree)
    assert one.state == "lacks" and "schedutil" in one.text
    assert one.remedy == ("echo performance | sudo tee "
                        "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
    for core in ("cpu0", "cpu1"):
        (tmp_path / "sys/devices/system/cpu" / core / "cpufreq/scaling_governor").write_text(
            "performance\n")
    assert doctor.governor(tree).state == "ok"


def test_unreadable_files_are_named_with_the_command(tmp_path):
    zone = tmp_path / "sys/class/thermal/thermal_zone0/temp"
    zone.parent.mkdir(parents=True)
    zone.write_text("41000\n")
    tree = SystemTree(str(tmp_path))
    assert doctor.permissions(tree).state == "ok" == doctor.temperature(tree).state
    one = doctor.permissions(tree, readable=lambda path: False)
    assert one.state == "lacks"
    assert one.remedy == "sudo chmod a+r /sys/class/thermal/thermal_zone0/temp"


def test_what_a_board_lacks_is_no_error(tmp_path):
    tree = SystemTree(str(tmp_path))
    found = [doctor.governor(tree), doctor.temperature(tree), doctor.throttling(tree)]
    assert {one.state for one in found} == {"lacks"}


def test_a_given_coordinator_is_checked(capsys, words, coordinator):
    code, found = said(capsys, [*words, "--coordinator", coordinator.url])
    assert code == 0 and found["coordinator"] == ("ok", coordinator.url + " answers", "")
    code, found = said(capsys, [*words, "--coordinator", "http://127.0.0.1:1"])
    assert code == 1 and found["coordinator"][0] == "MISSING"
    assert "curl -kv http://127.0.0.1:1/healthz" in found["coordinator"][2]
    code, found = said(capsys, [*words, "--coordinator", "nowhere"])
    assert code == 1 and "must be http" in found["coordinator"][1]


def test_the_coordinators_certificate_is_checked(capsys, words, tmp_path):
    secure = Coordinator(certificate=ONE)
    try:
        code, found = said(capsys, [*words, "--coordinator", secure.url])
        assert code == 1 and "--fingerprint" in found["coordinator"][1]
        write_secret(str(tmp_path / "spool"), Secret(secure.url, "desk", "desk", "s", pin(ONE)))
        code, found = said(capsys, [*words, "--coordinator", secure.url])
        assert code == 0 and found["coordinator"][0] == "ok"
        assert found["enrolment"][:2] == ("ok", "as desk at {}, certificate sha256:{}".format(
            secure.url, pin(ONE)))
    finally:
        secure.close()


def test_a_file_that_can_be_replaced_updates_itself(tmp_path, monkeypatch):
    assert doctor.updating().state == "lacks"
    (tmp_path / "agent.pyz").write_bytes(b"")
    monkeypatch.setattr(doctor, "own_archive", lambda: str(tmp_path / "agent.pyz"))
    assert doctor.updating().state == "ok"
    monkeypatch.setattr(doctor.os, "access", lambda path, how: False)
    assert "sudo chown" in doctor.updating().remedy
