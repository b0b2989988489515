"""The outbox is worked off at least once: retries, back-off, giving up, dead workers, rivals, the sweep."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, func, select, text, update
from structlog.testing import capture_logs

from farebox.auth.models import EmailToken, SignInThrottle, UserSession
from farebox.auth.service import MAIL_RESET
from farebox.auth.sessions import IDLE
from farebox.cli.assembly import make_worker
from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.errors import Unavailable
from farebox.core.ids import new_id
from farebox.core.outbox import OutboxItem, count_overdue, post
from farebox.core.settings import Settings
from farebox.worker import BATCH, LEASE_SECONDS, LONGEST_PAUSE_SECONDS, MAX_ATTEMPTS, Worker, pause_after
from tests.core.mailbox import Mailbox
from tests.owner import owner_transaction
from tests.tenants.factories import SETTINGS, make_account
from tests.waiting import WAIT_SECONDS

TOPIC = "test.job"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Doer:
    """A handler that notes what it is handed, and fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.seen: list[dict[str, Any]] = []
        self.failures = failures
        self.entered = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def __call__(self, database: Database, settings: Settings, payload: dict[str, Any]) -> None:
        self.seen.append(payload)
        self.entered.set()
        await self.may_go_on.wait()
        if len(self.seen) <= self.failures:
            raise ConnectionError("no route to the mail server")


def worker(database: Database, doer: Doer) -> Worker:
    return Worker(database, SETTINGS, {TOPIC: doer})


@pytest.fixture(autouse=True)
async def _empty_outbox(own_database: Database) -> None:
    async with own_database.meter_transaction() as session:
        await session.execute(delete(OutboxItem))


async def put(database: Database, *payloads: dict[str, Any], topic: str = TOPIC) -> None:
    async with database.transaction() as session:
        for payload in payloads:
            await post(session, topic, payload)


async def items(database: Database) -> list[OutboxItem]:
    async with database.meter_transaction() as session:
        return list(await session.scalars(select(OutboxItem).order_by(OutboxItem.id)))


async def seconds_to_next_attempt(database: Database) -> float:
    async with database.meter_transaction() as session:
        wait = func.extract("epoch", OutboxItem.next_attempt_at - func.now())
        return float(await session.scalar(select(wait)) or 0)


async def let_time_pass(database: Database) -> None:
    """Make everything due, but what was given up."""
    async with database.meter_transaction() as session:
        awaited = OutboxItem.next_attempt_at < text("'infinity'")
        await session.execute(
            update(OutboxItem).where(awaited).values(next_attempt_at=func.now() - timedelta(seconds=1))
        )


async def test_what_is_done_is_gone(own_database: Database) -> None:
    doer = Doer()
    await put(own_database, {"n": 1}, {"n": 2})
    assert await worker(own_database, doer).work_off() == 2
    assert sorted(seen["n"] for seen in doer.seen) == [1, 2]
    assert await items(own_database) == []
    assert await worker(own_database, doer).work_off() == 0


async def test_a_job_of_a_transaction_that_rolled_back_is_not_done(own_database: Database) -> None:
    doer = Doer()

    async def post_and_fail() -> None:
        async with own_database.transaction() as session:
            await post(session, TOPIC, {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await post_and_fail()
    assert await worker(own_database, doer).work_off() == 0
    assert doer.seen == []


async def test_a_failed_job_is_tried_again_after_a_pause_that_doubles(own_database: Database) -> None:
    doer = Doer(failures=3)
    await put(own_database, {"n": 1})
    for attempt in (1, 2, 3):
        assert await worker(own_database, doer).work_off() == 1
        (item,) = await items(own_database)
        assert item.attempts == attempt
        assert item.last_error == "ConnectionError: no route to the mail server"
        assert 0.75 * 2**attempt - 1 < await seconds_to_next_attempt(own_database) <= 1.25 * 2**attempt
        assert await worker(own_database, doer).work_off() == 0, "not before its time"
        await let_time_pass(own_database)
    assert await worker(own_database, doer).work_off() == 1
    assert doer.seen == [{"n": 1}] * 4
    assert await items(own_database) == []


def test_the_pauses_double_up_to_an_hour_and_end() -> None:
    for attempt in range(1, MAX_ATTEMPTS):
        pause, middle = pause_after(attempt), min(2.0**attempt, LONGEST_PAUSE_SECONDS)
        assert pause is not None
        assert 0.75 * middle <= pause <= 1.25 * middle
    assert pause_after(MAX_ATTEMPTS) is None
    hours = sum(min(2.0**attempt, LONGEST_PAUSE_SECONDS) for attempt in range(1, MAX_ATTEMPTS)) / 3600
    assert 8 < hours < 10


async def test_a_job_that_always_fails_is_given_up_and_kept(own_database: Database) -> None:
    doer = Doer(failures=MAX_ATTEMPTS + 1)
    await put(own_database, {"n": 1})
    for _ in range(MAX_ATTEMPTS):
        assert await worker(own_database, doer).work_off() == 1
        await let_time_pass(own_database)
    assert await worker(own_database, doer).work_off() == 0
    assert len(doer.seen) == MAX_ATTEMPTS
    async with own_database.meter_transaction() as session:
        never = OutboxItem.next_attempt_at == text("'infinity'")
        query = select(OutboxItem.last_error).where(never)
        assert await session.scalar(query) == "ConnectionError: no route to the mail server"


async def test_one_bad_job_does_not_stop_the_others(own_database: Database) -> None:
    doer = Doer()
    await put(own_database, {"n": 1}, topic="from a newer version")
    await put(own_database, {"n": 2})
    assert await worker(own_database, doer).work_off() == 2
    assert doer.seen == [{"n": 2}]
    (item,) = await items(own_database)
    assert item.last_error == "LookupError: no handler for the topic from a newer version"


async def test_what_a_dead_worker_had_claimed_is_done_after_its_lease(own_database: Database) -> None:
    stuck, doer = Doer(), Doer()
    stuck.may_go_on.clear()
    await put(own_database, {"n": 1})
    dead = asyncio.create_task(worker(own_database, stuck).work_off())
    await stuck.entered.wait()
    dead.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dead
    assert LEASE_SECONDS - 10 < await seconds_to_next_attempt(own_database) <= LEASE_SECONDS
    assert await worker(own_database, doer).work_off() == 0, "its lease still runs"
    await let_time_pass(own_database)
    assert await worker(own_database, doer).work_off() == 1
    assert doer.seen == [{"n": 1}]
    assert await items(own_database) == []


async def test_workers_side_by_side_do_each_job_once(own_database: Database) -> None:
    jobs = 5 * BATCH
    doer = Doer()
    await put(own_database, *({"n": n} for n in range(jobs)))
    workers = [worker(own_database, doer) for _ in range(4)]

    async def exhaust(one: Worker) -> int:
        done = 0
        while batch := await one.work_off():
            assert batch <= BATCH
            done += batch
        return done

    done = await asyncio.gather(*map(exhaust, workers))
    assert sum(done) == jobs
    assert sorted(seen["n"] for seen in doer.seen) == list(range(jobs))
    assert await items(own_database) == []


def test_a_topic_may_have_more_patience_and_its_pauses_stay_an_hour() -> None:
    days = sum(pause_after(attempt, 336) or 0 for attempt in range(1, 336)) / 86_400
    assert days > 9
    assert pause_after(335, 336) is not None
    assert pause_after(336, 336) is None
    assert (pause_after(5000, 10_000) or 0) <= 1.25 * LONGEST_PAUSE_SECONDS


async def test_what_shares_a_key_is_done_one_at_a_time_in_its_order(own_database: Database) -> None:
    doer = Doer(failures=1)
    async with own_database.transaction() as session:
        for n in (1, 2):
            await post(session, TOPIC, {"n": n}, serial_key="customer")
        await post(session, TOPIC, {"n": 3}, serial_key="another")
        await post(session, TOPIC, {"n": 4})
    assert await worker(own_database, doer).work_off() == 3
    assert {seen["n"] for seen in doer.seen} == {1, 3, 4}
    assert await worker(own_database, doer).work_off() == 0, (
        "the first of the customer failed, and is waited for"
    )
    await let_time_pass(own_database)
    assert await worker(own_database, doer).work_off() == 1
    assert await worker(own_database, doer).work_off() == 1
    assert [seen["n"] for seen in doer.seen[3:]] == [1, 2]


async def test_what_was_given_up_holds_nobody_up(own_database: Database) -> None:
    doer = Doer(failures=1)
    async with own_database.transaction() as session:
        for n in (1, 2):
            await post(session, TOPIC, {"n": n}, serial_key="customer")
    impatient = Worker(own_database, SETTINGS, {TOPIC: doer}, patience={TOPIC: 1})
    assert await impatient.work_off() == 1
    assert await impatient.work_off() == 1
    assert [seen["n"] for seen in doer.seen] == [1, 2]


async def test_what_is_not_done_after_an_hour_is_an_alarm(own_database: Database) -> None:
    doer = Doer(failures=3)
    await put(own_database, {"n": 1})
    with capture_logs() as logs:
        await worker(own_database, doer).work_off()
        async with own_database.meter_transaction() as session:
            await session.execute(update(OutboxItem).values(created_at=func.now() - HOUR))
        await let_time_pass(own_database)
        await worker(own_database, doer).work_off()
    alarms = [log for log in logs if log["event"] == "outbox.overdue"]
    assert [(log["log_level"], log["topic"], log["seconds"] >= 3600) for log in alarms] == [
        ("error", TOPIC, True)
    ]
    async with own_database.meter_transaction() as session:
        assert await count_overdue(session) == {TOPIC: 1}


async def test_watches_run_by_themselves_and_a_failing_one_stops_no_job(own_database: Database) -> None:
    doer, watched = Doer(), asyncio.Event()

    async def watch(_: Database) -> None:
        watched.set()
        raise ZeroDivisionError

    await put(own_database, {"n": 1})
    running = Worker(own_database, SETTINGS, {TOPIC: doer}, watches=[watch])
    task = asyncio.create_task(running.run())
    async with asyncio.timeout(WAIT_SECONDS):
        await watched.wait()
        await doer.entered.wait()
    running.stop()
    await task


async def test_a_claim_that_another_holds_is_passed_over(own_database: Database) -> None:
    slow, quick = Doer(), Doer()
    slow.may_go_on.clear()
    await put(own_database, {"n": 1})
    first = asyncio.create_task(worker(own_database, slow).work_off())
    await slow.entered.wait()
    await put(own_database, {"n": 2})
    assert await worker(own_database, quick).work_off() == 1
    slow.may_go_on.set()
    assert await first == 1
    assert (slow.seen, quick.seen) == ([{"n": 1}], [{"n": 2}])
    assert await items(own_database) == []


async def test_it_finishes_what_is_under_way_when_stopped(own_database: Database) -> None:
    doer = Doer()
    doer.may_go_on.clear()
    await put(own_database, {"n": 1})
    one = worker(own_database, doer)
    running = asyncio.create_task(one.run())
    await doer.entered.wait()
    one.stop()
    doer.may_go_on.set()
    async with asyncio.timeout(WAIT_SECONDS):
        await running
    assert await items(own_database) == []


async def test_it_outlives_a_database_that_is_away(own_url: str, own_database: Database) -> None:
    doer = Doer()
    await put(own_database, {"n": 1})
    async with own_database.meter_transaction() as session:
        # Its claim waits for this lock, longer than it has patience for.
        await session.execute(text("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE"))
        rival = Database(own_url)
        with pytest.raises(Unavailable):
            await worker(rival, doer).work_off()
    one = worker(rival, doer)
    running = asyncio.create_task(one.run())
    await doer.entered.wait()
    one.stop()
    await running
    await rival.close()
    assert doer.seen == [{"n": 1}]


async def test_the_sweep_takes_what_has_expired_and_nothing_else(own_database: Database) -> None:
    user_id = (await make_account(own_database)).user_id
    now, later, earlier = utc_now(), utc_now() + timedelta(hours=1), utc_now() - timedelta(minutes=1)
    async with owner_transaction(own_database) as session:
        session.add_all(
            [
                UserSession(token_sha256=b"live", user_id=user_id, expires_at=later),
                UserSession(token_sha256=b"ended", user_id=user_id, expires_at=earlier),
                UserSession(
                    token_sha256=b"idle", user_id=user_id, expires_at=later, last_seen_at=now - IDLE - HOUR
                ),
                EmailToken(token_sha256=b"live", user_id=user_id, purpose="reset", expires_at=later),
                EmailToken(token_sha256=b"ended", user_id=user_id, purpose="reset", expires_at=earlier),
                SignInThrottle(subject=b"live", failures=1, blocked_until=later, updated_at=now),
                SignInThrottle(subject=b"old", failures=1, blocked_until=earlier, updated_at=now - 2 * DAY),
            ]
        )
    await make_worker(own_database, SETTINGS).sweep()
    own = {b"live", b"ended", b"idle", b"old"}
    async with owner_transaction(own_database) as session:
        for column in (UserSession.token_sha256, EmailToken.token_sha256, SignInThrottle.subject):
            # Other tests in this database leave live ones too, under digests.
            assert set(await session.scalars(select(column))) & own == {b"live"}


async def test_it_sends_a_mail_once_the_mail_server_is_back(own_database: Database) -> None:
    """The real handlers: the first attempt finds nobody at the address."""
    address = f"{new_id().hex}@example.com"
    await make_account(own_database, email=address)
    await put(own_database, {"email": address}, topic=MAIL_RESET)
    assert await make_worker(own_database, Settings(smtp_url="smtp://127.0.0.1:1")).work_off() == 1
    (item,) = await items(own_database)
    assert item.last_error
    assert "ConnectionRefusedError" in item.last_error
    await let_time_pass(own_database)
    async with Mailbox().open() as mailbox:
        assert await make_worker(own_database, Settings(smtp_url=mailbox.url)).work_off() == 1
        assert [mail["Subject"] for mail in mailbox.of(address)] == ["Choose a new password"]
    assert await items(own_database) == []


async def test_a_long_sweep_holds_up_no_mail(own_database: Database) -> None:
    doer, begun, ended = Doer(), asyncio.Event(), asyncio.Event()

    async def reconcile(_: Database) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await put(own_database, {"n": 1})
    one = Worker(own_database, SETTINGS, {TOPIC: doer}, long_sweeps=[reconcile])
    running = asyncio.create_task(one.run())
    await begun.wait()
    await doer.entered.wait()
    one.stop()
    await running
    assert ended.is_set(), "it is not left behind"


async def test_a_sweep_that_fails_keeps_no_other_from_its_turn(own_database: Database) -> None:
    swept = asyncio.Event()

    async def fail(_: Database) -> None:
        raise LookupError

    async def sweep(_: Database) -> None:
        swept.set()

    worker = Worker(own_database, SETTINGS, {}, [fail, sweep])
    running = asyncio.create_task(worker.run())
    await asyncio.wait_for(swept.wait(), WAIT_SECONDS)
    worker.stop()
    await running
