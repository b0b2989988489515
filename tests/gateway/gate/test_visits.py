"""What the gate counts: refusals in the buckets of who caused them, bodies by what of them is there."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from litestar.types import HTTPScope

from farebox.core.bodies import LARGE_BODY_BYTES, ClientGone
from farebox.core.errors import BadRequest, FareboxError, Unavailable
from farebox.core.fair_threads import FairThreads
from farebox.gateway.errors import TooManyPending, TooManyRefusals
from farebox.gateway.gate.gate import ADDRESS_SHARES, MAX_PENDING_BYTES, Gate, Visit
from farebox.gateway.gate.refusal_buckets import RefusalBuckets
from farebox.gateway.gate.refused_work import MILLISECONDS_A_REFUSAL, ORGANIZATION_SHARES
from farebox.keys.errors import InvalidApiKey
from farebox.keys.tokens import KeyClaims, Keyring
from farebox.metering.errors import Contended
from tests.gateway.servers import make_settings
from tests.metering.cut_wire import CutWire
from tests.tenants.factories import Tenant
from tests.waiting import WAIT_SECONDS

BURST = 12
# Of threads, for a key that is refused; the most that may come at once.
SECONDS = 6 * BURST * MILLISECONDS_A_REFUSAL / 1000
MALFORMED = BadRequest("This is malformed.")


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def gate(clock: Clock, database_url: str, tmp_path: Path) -> AsyncIterator[Gate]:
    """One that bears BURST refusals of a key at once, and another one each second."""
    settings = make_settings(tmp_path, refused_requests_per_minute=6 * BURST)
    gate = Gate(settings, database_url, clock=clock)
    yield gate
    await gate.close()


def a_key(organization_id: UUID) -> KeyClaims:
    key_id = uuid4()
    return KeyClaims(key_id, organization_id, uuid4(), key_id.bytes)


def scope_of(*headers: tuple[bytes, bytes], address: str = "203.0.113.7") -> HTTPScope:
    return {"headers": list(headers), "client": (address, 40_000)}  # type: ignore[typeddict-item]  # all that is read


def announcing(size: int) -> HTTPScope:
    return scope_of((b"content-length", b"%d" % size))


def chunked(address: str) -> HTTPScope:
    return scope_of((b"transfer-encoding", b"chunked"), address=address)


def refuse(gate: Gate, key: KeyClaims, error: FareboxError = MALFORMED) -> None:
    """Let a request in, and have it refused."""
    with pytest.raises(type(error)), gate.visit(key, scope_of()):
        raise error


async def refuse_after(
    gate: Gate, key: KeyClaims, seconds: float, error: FareboxError | None = MALFORMED
) -> None:
    """Let a request in, work for it for so long in a thread, and have it refused, or not."""
    working = Clock()
    threads = FairThreads("test", clock=working)
    with contextlib.suppress(FareboxError), gate.visit(key, scope_of()) as visit:
        await visit.run(threads, partial(working.spend, seconds))
        if error is not None:
            raise error


def is_heard(gate: Gate, key: KeyClaims) -> bool:
    try:
        with gate.visit(key, scope_of()):
            return True
    except TooManyRefusals:
        return False


def test_a_refusal_is_forgotten_in_its_time(clock: Clock) -> None:
    buckets, who = RefusalBuckets(6 * BURST, clock=clock), uuid4()
    assert [buckets.take(who) for _ in range(BURST + 2)] == [1] * BURST + [0] * 2
    assert buckets.wait_of(who) == 1
    clock.now += 60 / (6 * BURST)
    assert buckets.wait_of(who) == 0
    assert [buckets.take(who), buckets.take(who)] == [1, 0]
    clock.now += 60
    assert [buckets.take(who) for _ in range(BURST + 1)] == [1] * BURST + [0]


def test_what_is_owed_is_paid_off_and_is_never_more_than_the_size(clock: Clock) -> None:
    buckets, who = RefusalBuckets(600, burst_seconds=60, owing=True, clock=clock), uuid4()
    assert buckets.take(who, 599.5) == 599.5
    assert buckets.wait_of(who) == 1
    assert buckets.take(who, 1e9) == 600.5
    # From as much below nothing to one.
    assert buckets.wait_of(who) == 61
    clock.now += 60.1
    assert buckets.wait_of(who) == 0


def test_a_slow_bucket_tells_how_long_it_takes(clock: Clock) -> None:
    buckets, who = RefusalBuckets(1, clock=clock), uuid4()
    buckets.take(who)
    assert buckets.wait_of(who) == 60
    clock.now += 30
    assert buckets.wait_of(who) == 30


async def test_one_key_alone_cannot_have_its_organizations_refusals(gate: Gate) -> None:
    organization_id = uuid4()
    key, other = a_key(organization_id), a_key(organization_id)
    # All of them came in before the first was refused.
    with ExitStack() as visits:
        entered = [gate.visit(key, scope_of()) for _ in range(BURST * ORGANIZATION_SHARES)]
        for visit in entered:
            visits.enter_context(visit)
        for visit in entered:
            gate.note_refusal(visit.claims, MALFORMED)
    assert not is_heard(gate, key)
    assert is_heard(gate, other)


async def test_many_keys_together_can(gate: Gate) -> None:
    organization_id = uuid4()
    for _ in range(ORGANIZATION_SHARES):
        key = a_key(organization_id)
        for _ in range(BURST):
            refuse(gate, key)
    assert not is_heard(gate, a_key(organization_id))
    assert is_heard(gate, a_key(uuid4()))


async def test_revoked_keys_together_cannot(gate: Gate) -> None:
    organization_id = uuid4()
    for _ in range(2 * ORGANIZATION_SHARES):
        key = a_key(organization_id)
        for _ in range(BURST):
            refuse(gate, key, InvalidApiKey())
        assert not is_heard(gate, key)
    assert is_heard(gate, a_key(organization_id))


@pytest.mark.parametrize(
    "error", [ClientGone("It left."), Unavailable("Away."), TooManyPending("pending_requests", "key")]
)
async def test_what_is_no_refusal_takes_nothing(gate: Gate, error: FareboxError) -> None:
    key = a_key(uuid4())
    for _ in range(2 * BURST):
        refuse(gate, key, error)
    assert is_heard(gate, key)


async def test_refusals_count_by_the_seconds_that_came_before_them(gate: Gate, clock: Clock) -> None:
    key = a_key(uuid4())
    await refuse_after(gate, key, 0.9 * SECONDS)
    assert is_heard(gate, key)
    await refuse_after(gate, key, 0.6 * SECONDS)
    with pytest.raises(TooManyRefusals) as told, gate.visit(key, scope_of()):
        pass
    assert (told.value.limit, told.value.scope) == ("refused_seconds_per_minute", "key")
    # A minute's worth comes back in a minute; half of one is owed.
    assert told.value.headers["Retry-After"] == "31"
    clock.now += 31
    assert is_heard(gate, key)
    # Its organization has more.
    assert is_heard(gate, a_key(key.organization_id))


@pytest.mark.parametrize(
    ("error", "heard"), [(None, True), (Unavailable("Away."), True), (Contended(), False)]
)
async def test_work_counts_where_it_was_for_a_refusal(
    gate: Gate, error: FareboxError | None, heard: bool
) -> None:
    key = a_key(uuid4())
    await refuse_after(gate, key, 2 * SECONDS, error)
    assert is_heard(gate, key) is heard


async def test_many_keys_share_their_organizations_seconds(gate: Gate) -> None:
    organization_id = uuid4()
    for _ in range(ORGANIZATION_SHARES):
        await refuse_after(gate, a_key(organization_id), 1.1 * SECONDS)
    assert not is_heard(gate, a_key(organization_id))


async def test_what_waits_for_a_thread_is_refused_when_its_turn_comes(gate: Gate) -> None:
    key, threads, begun = a_key(uuid4()), FairThreads("test"), threading.Event()
    with ExitStack() as visits:
        first, second = (visits.enter_context(gate.visit(key, scope_of())) for _ in range(2))
        go = threading.Event()
        running = asyncio.create_task(first.run(threads, lambda: go.wait(WAIT_SECONDS)))
        waiting = asyncio.create_task(second.run(threads, begun.set))
        await asyncio.sleep(0)
        gate.note_refusal(key, MALFORMED, 2 * SECONDS)
        go.set()
        await running
        with pytest.raises(TooManyRefusals):
            await waiting
    assert not begun.is_set()


async def test_of_a_body_in_chunks_what_is_there_counts(gate: Gate) -> None:
    key = a_key(uuid4())
    with ExitStack() as visits:
        for number in range(100):
            visits.enter_context(gate.visit(key, chunked(f"203.0.113.{number}"))).note_body(100)
        large = [visits.enter_context(gate.visit(key, chunked(f"198.51.100.{n}"))) for n in range(32)]
        for visit in large[:31]:
            visit.note_body(500_000)
            visit.note_body(1_000_000)
        with pytest.raises(TooManyPending):
            large[31].note_body(1_000_000)
        with pytest.raises(TooManyPending), gate.visit(key, announcing(1_000_000)):
            pass
    # All was given back.
    with gate.visit(key, announcing(1_000_000)):
        pass


async def test_an_address_has_room_for_several_keys(gate: Gate) -> None:
    with ExitStack() as visits:
        for _ in range(ADDRESS_SHARES):
            key = a_key(uuid4())
            for _ in range(MAX_PENDING_BYTES // 1_000_000):
                visits.enter_context(gate.visit(key, announcing(1_000_000)))
        with pytest.raises(TooManyPending), gate.visit(a_key(uuid4()), announcing(1_000_000)):
            pass


async def test_the_row_is_read_before_what_may_be_much_work(
    gate: Gate, keyring: Keyring, tenant: Tenant
) -> None:
    claims = keyring.verify(tenant.api_key)
    sizes = [announcing(10), announcing(LARGE_BODY_BYTES), announcing(LARGE_BODY_BYTES + 1), chunked("::1")]

    def first() -> list[bool]:
        return [gate.visit(claims, scope).row_first for scope in sizes]

    assert first() == [True] * 4
    await gate.visit(claims, announcing(10)).authorise()
    assert first() == [False, False, True, True]
    refuse(gate, claims)
    assert first() == [False, False, True, True]
    refuse(gate, claims, InvalidApiKey())
    assert first() == [True] * 4


async def test_only_what_living_keys_ask_is_their_organizations(
    clock: Clock, database_url: str, tmp_path: Path, keyring: Keyring, tenant: Tenant
) -> None:
    gate = Gate(make_settings(tmp_path, pending_requests_per_key=1), database_url, clock=clock)
    living = keyring.verify(tenant.api_key)
    dead = a_key(tenant.organization_id)

    async def join(claims: KeyClaims, visits: ExitStack) -> Visit:
        visit = visits.enter_context(gate.visit(claims, announcing(10)))
        await visit.join()
        return visit

    with ExitStack() as visits, pytest.raises(InvalidApiKey):
        await join(dead, visits)
    with ExitStack() as visits:
        visits.enter_context(gate.visit(dead, announcing(10)))
        joined = await join(living, visits)
        await joined.join()
        joined.end()
        # Its place is free again, for both it counted as.
        await join(living, visits)
        with pytest.raises(TooManyPending):
            await asyncio.wait_for(gate.visit(living, announcing(10)).join(), 60)
    await gate.close()


async def test_a_request_waits_once_for_a_postgres_that_does_not_answer(
    database_url: str, tmp_path: Path
) -> None:
    """What else is wrong with it, it would be told after a second wait, and so after the five seconds."""
    async with CutWire(database_url) as wire:
        gate = Gate(make_settings(tmp_path), wire.url)
        with gate.visit(a_key(uuid4()), scope_of()) as visit:
            wire.away = True
            with pytest.raises(Unavailable) as first:
                await visit.authorise()
            wire.away = False
            with pytest.raises(Unavailable) as again:
                await visit.authorise()
        assert again.value is first.value
        await gate.close()
