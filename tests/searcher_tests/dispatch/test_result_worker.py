"""A result judged in another process is stored as if it had been judged here."""

import asyncio
import marshal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import protocol
from searcher.dispatch.result_worker import LENGTH, Judge, messages
from searcher.jobs import results
from searcher.jobs.measure import Draft
from searcher.ledger.rows import AgentRow, JobRow
from searcher.ledger.tables import jobs, measurements
from tests.searcher_tests.dispatch.laboratory import (
    Laboratory,
    envelope,
    measure_payload,
    measure_result,
)

NOW_S = 1_700_000_100.0


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    laboratory = Laboratory.open(tmp_path)
    yield laboratory
    laboratory.store.close()


def leased(lab: Laboratory, agent: AgentRow, attempt: int = 1) -> JobRow:
    payload = measure_payload(lab.artifact(b"reference"), lab.artifact(b"candidate"))
    lab.coordinator.submit("measure", "device:local_cpu", {**payload, "attempt": attempt})
    return lab.leased(agent)


def drafted(lab: Laboratory, job: JobRow, content: bytes) -> Draft:
    draft = results.drafted(lab.store.db, job, content, NOW_S)
    assert draft is not None
    return draft


def put(lab: Laboratory, agent: AgentRow, job: JobRow, content: bytes, draft: Draft | None) -> None:
    lab.coordinator.put_result(agent, job.id, job.attempt, job.fence or 0,
                               protocol.content_sha256(content), content, draft)


def result(lab: Laboratory, job: JobRow) -> dict[str, Any]:
    found = jobs.get(lab.store.db, job.id)
    assert found is not None and found.state == "done" and found.result is not None
    return found.result


@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(1, 40))
def test_messages_come_whole_however_they_are_cut(sent: list[bytes], step: int) -> None:
    stream = b"".join(LENGTH.pack(len(one)) + one for one in sent)
    buffer, found = bytearray(), []
    for at in range(0, len(stream), step):
        buffer += stream[at:at + step]
        found += messages(buffer)
    assert found == sent and not buffer


def test_the_process_judges_as_the_coordinator_does(lab: Laboratory) -> None:
    agent = lab.device()
    job = leased(lab, agent)
    sound = lab.result(job)
    unsound = [b"{", envelope({"reason": "runtime", "message": "?"}, "failed"),
               envelope({**measure_result(job.payload), "quiet_level_s": -1.0})]

    async def ask() -> tuple[list[Draft | None], Draft | None, Draft | None]:
        judge = Judge(lab.store.path)
        await judge.start()
        try:
            answers = await asyncio.gather(*(
                judge.draft(job.id, content, NOW_S) for content in (sound, *unsound)))
            unknown = await judge.draft(job.id + 1, sound, NOW_S)
            asked = asyncio.ensure_future(judge.draft(job.id, sound, NOW_S))
            await asyncio.sleep(0)
        finally:
            judge.stop()
        return list(answers), unknown, await asked

    answers, unknown, cut_off = asyncio.run(ask())
    assert answers == [drafted(lab, job, sound), None, None, None]
    assert unknown is None and cut_off is None, "nobody waits for a judge that is gone"
    put(lab, agent, job, sound, answers[0])
    (shown,) = result(lab, job)["measurements"]
    row = measurements.get(lab.store.db, shown["measurement"])
    assert row is not None and row.created_s == NOW_S and row.ratio == shown["ratio"]
    assert measurements.samples(lab.store.db, row.id) is not None


def test_a_killed_judge_answers_nothing_and_comes_back_later(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = lab.device()
    job = leased(lab, agent)
    content = lab.result(job)

    async def ask() -> list[Draft | None]:
        judge = Judge(lab.store.path)
        await judge.start()
        try:
            first = await judge.draft(job.id, content, NOW_S)
            assert judge._process is not None
            judge._process.kill()
            after = await judge.draft(job.id, content, NOW_S)
            at_once = await judge.draft(job.id, content, NOW_S)
            monkeypatch.setattr("searcher.dispatch.result_worker.START_EVERY_S", 0.0)
            return [first, after, at_once, await judge.draft(job.id, content, NOW_S)]
        finally:
            judge.stop()

    expected = drafted(lab, job, content)
    assert asyncio.run(ask()) == [expected, None, None, expected]


def test_a_draft_is_plain(lab: Laboratory) -> None:
    job = leased(lab, lab.device())
    draft = drafted(lab, job, lab.result(job))
    assert Draft(*marshal.loads(marshal.dumps(tuple(draft)))) == draft


def test_a_draft_gives_what_judging_here_gives(lab: Laboratory) -> None:
    agent = lab.device()
    told = []
    for attempt in (1, 2):
        job = leased(lab, agent, attempt)
        content = lab.result(job)
        put(lab, agent, job, content, drafted(lab, job, content) if attempt == 2 else None)
        told.append(result(lab, job))
    for one in told:
        for shown in one["measurements"]:
            del shown["measurement"]
    assert told[0] == told[1]


def test_a_draft_made_for_another_level_does_not_count(lab: Laboratory) -> None:
    agent = lab.device()
    job = leased(lab, agent)
    content = envelope(measure_result(job.payload, level_s=2e-4))
    stale = drafted(lab, job, content)
    assert stale.level_since_s is None
    lower = results.drafted(lab.store.db, job, envelope(measure_result(job.payload)), NOW_S)
    assert lower is not None and lower.level is not None
    with lab.store.atomic() as db:
        measurements.put_quiet_level(db, lower.level_place, lower.level)
    put(lab, agent, job, content, stale)
    assert result(lab, job)["quiet_level_s"] == 1e-4, "judged again, by the level that is known"


def test_a_draft_that_contradicts_the_ledger_is_judged_again(lab: Laboratory) -> None:
    agent = lab.device()
    job = leased(lab, agent)
    content = lab.result(job)
    draft = drafted(lab, job, content)
    impossible = draft._replace(rows=[{**row, "device": "nobody"} for row in draft.rows])
    with pytest.raises(sqlite3.IntegrityError), lab.store.atomic() as db:
        measurements.put_written(db, impossible.rows[0])
    put(lab, agent, job, content, impossible)
    assert [row.device for row in measurements.of_job(lab.store.db, job.id)] == ["local_cpu"]


def test_a_draft_does_not_open_a_lease_that_is_over(lab: Laboratory) -> None:
    agent = lab.device()
    job = leased(lab, agent)
    content = lab.result(job)
    draft = drafted(lab, job, content)
    lab.coordinator.lease(agent)  # what it held before is lost
    with pytest.raises(Exception, match="not in force|at attempt"):
        put(lab, agent, job, content, draft)
    assert measurements.of_job(lab.store.db, job.id) == []
