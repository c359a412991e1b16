"""Start and end of a search process."""

import io
from pathlib import Path
from typing import Any

import pytest

from searcher.client.records import Device
from searcher.errors import BuildError, LedgerError, UserError
from searcher.search import process
from searcher.search.process import main, profile_of
from searcher.spec.campaign import from_document
from tests.searcher_tests.dispatch.laboratory import SPEC


class Enrolled:
    """The part of the client that lists devices."""

    def devices(self) -> list[Device]:
        old = {"runtimes": {"onnxruntime": {"onnxruntime": "1.10.0"}}}
        return [self._device("tx2-1", "jetson_tx2", old), self._device("odd", None, {})]

    def _device(self, name: str, profile: str | None, capabilities: dict[str, Any]) -> Device:
        return Device(name, profile, {}, capabilities, 0, "active", 0.0, None, 0, None)


def found(**device: Any) -> str:
    campaign = from_document({**SPEC, "devices": [device]})
    client: Any = Enrolled()
    return profile_of(client, campaign)[0].name


def test_the_profile_of_a_device() -> None:
    assert found(profile="local_cpu") == "local_cpu"
    assert found(name="tx2-1") == "jetson_tx2"
    for unknown in ({"name": "odd"}, {"name": "gone"}, {"profile": "none"}):
        with pytest.raises(UserError, match=f"Device '{next(iter(unknown.values()))}'"):
            found(**unknown)


def test_a_devices_report_overrides_its_profile() -> None:
    campaign = from_document({**SPEC, "devices": [{"name": "tx2-1"}]})
    client: Any = Enrolled()
    device, notes = profile_of(client, campaign)
    assert (device.opset, device.ir_version) == (15, 8)
    assert len(notes) == 1 and notes[0].startswith("tx2-1: it reports ONNX Runtime 1.10.0")


@pytest.mark.parametrize("device", [
    {"name": "tx2-1", "runtime": "trtexec"}, {"name": "tx2-1", "provider": "CUDAExecutionProvider"},
    {"profile": "local_cpu", "threads": 2}])
def test_a_campaign_needs_options_that_its_device_offers(
    device: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match="It offers: "):
        found(**device)


@pytest.mark.parametrize(("line", "searched"), [("\n", ["digits"]), ("", [])])
def test_the_process_waits_for_a_line_on_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, searched: list[str]
) -> None:
    names: list[str] = []
    monkeypatch.setattr(process, "search", lambda directory, name: names.append(name))
    monkeypatch.setattr(process, "die_with_parent", lambda pid: None)
    monkeypatch.setattr("sys.stdin", io.StringIO(line))
    monkeypatch.setattr("sys.argv", ["search", "--dir", str(tmp_path), "--campaign", "digits",
                                     "--parent-pid", "1", "--when-told"])
    main()
    assert names == searched


@pytest.mark.parametrize(("error", "code"), [
    (UserError("x"), 1), (BuildError("x"), 1), (LedgerError("x"), 2), (ZeroDivisionError("x"), 2)])
def test_exit_codes_say_whether_to_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def fails(directory: Path, name: str) -> None:
        raise error

    monkeypatch.setattr(process, "search", fails)
    monkeypatch.setattr(process, "die_with_parent", lambda pid: None)
    monkeypatch.setattr("sys.argv", ["search", "--dir", str(tmp_path), "--campaign", "digits",
                                     "--parent-pid", "1"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code


class Coordinator:
    """Records the states that a search reports."""

    def __init__(self) -> None:
        self.states: list[tuple[str, str | None]] = []

    def __enter__(self) -> "Coordinator":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def set_state(self, name: str, state: str, reason: str | None = None) -> None:
        self.states.append((state, reason))

    def campaign(self, name: str) -> dict[str, Any]:
        raise self.error

    error: Exception


@pytest.mark.parametrize(("error", "states"), [
    (UserError("no such task"), [("running", None), ("failed", "no such task")]),
    (LedgerError("the disk is full"), [("running", None)]),
])
def test_a_temporary_error_does_not_fail_the_campaign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception,
    states: list[tuple[str, str | None]],
) -> None:
    coordinator = Coordinator()
    coordinator.error = error
    monkeypatch.setattr(process, "connect", lambda directory: coordinator)
    with pytest.raises(type(error)):
        process.search(tmp_path, "digits")
    assert coordinator.states == states
