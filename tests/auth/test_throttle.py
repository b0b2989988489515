"""Back-off: exact under concurrency, doubling, forgetting, and not to be reset by the attacker."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.auth.errors import TooManyAttempts
from farebox.auth.models import SignInThrottle
from farebox.auth.throttle import (
    ADDRESS,
    PROVIDER,
    SITE,
    Backoff,
    clear,
    count_attempt,
    count_request,
    count_sign_in,
    network_of,
    networks_of,
    uncount_attempt,
    uncount_sign_in,
)
from farebox.core.database import Database
from tests.tenants.factories import an_address, an_email

BACKOFF = Backoff("test", free=3, longest_pause=60, forget_after=600)


async def attempt(database: Database, who: str, backoff: Backoff = BACKOFF) -> int:
    """0 when it may be made, else the seconds to wait."""
    try:
        async with database.transaction() as session:
            await count_attempt(session, backoff, who)
    except TooManyAttempts as refusal:
        return int(refusal.headers["Retry-After"])
    return 0


async def let_pass(database: Database, who: str, **time: float) -> None:
    """Make it as if so much time had passed since the last attempt."""
    ago = timedelta(**time)
    async with database.transaction() as session:
        await session.execute(
            update(SignInThrottle)
            .where(SignInThrottle.subject == BACKOFF.subject(who))
            .values(
                updated_at=SignInThrottle.updated_at - ago, blocked_until=SignInThrottle.blocked_until - ago
            )
        )


async def test_simultaneous_attempts_get_exactly_the_free_ones(database: Database) -> None:
    who = an_email()
    waits = await asyncio.gather(*(attempt(database, who) for _ in range(40)))
    # The one that starts the first pause is still made; of the rest none is.
    assert waits.count(0) == BACKOFF.free + 1
    assert set(waits) == {0, 1}


async def test_without_a_clock_of_its_own_it_asks_postgres(database_url: str) -> None:
    database, who = Database(database_url), an_email()
    brief = Backoff("brief", free=0, longest_pause=0, forget_after=600)
    assert [await attempt(database, who, brief) for _ in range(3)] == [0, 0, 0]
    async with database.transaction() as session:
        query = select(func.now(), SignInThrottle.updated_at)
        now, counted = (
            await session.execute(query.where(SignInThrottle.subject == brief.subject(who)))
        ).one()
    await database.close()
    assert timedelta() <= now - counted < timedelta(days=1)


async def test_pauses_double_up_to_the_longest(database: Database) -> None:
    who = an_email()
    for _ in range(BACKOFF.free):
        assert await attempt(database, who) == 0
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        assert await attempt(database, who) == 0
        assert await attempt(database, who) == pause
        await let_pass(database, who, seconds=pause)


async def test_a_refused_attempt_does_not_lengthen_the_pause(database: Database) -> None:
    who = an_email()
    for _ in range(BACKOFF.free + 1):
        await attempt(database, who)
    assert [await attempt(database, who) for _ in range(10)] == [1] * 10


async def test_attempts_are_forgotten_one_by_one(database: Database) -> None:
    who = an_email()
    for _ in range(BACKOFF.free + 1):
        await attempt(database, who)
    await let_pass(database, who, seconds=2 * BACKOFF.forget_after)
    # Two of four are forgotten: one more is free, the next starts a pause of one second.
    assert [await attempt(database, who) for _ in range(3)] == [0, 0, 1]
    await let_pass(database, who, days=1)
    assert [await attempt(database, who) for _ in range(5)] == [0, 0, 0, 0, 1]


async def test_taking_back_uncounts_one_attempt_only(database: Database) -> None:
    who = an_email()
    for _ in range(BACKOFF.free):
        await attempt(database, who)
    async with database.transaction() as session:
        await uncount_attempt(session, BACKOFF, who)
    assert [await attempt(database, who) for _ in range(3)] == [0, 0, 1]


async def test_clearing_forgets_everything_of_one_subject(database: Database) -> None:
    who, other = an_email(), an_email()
    for _ in range(BACKOFF.free + 1):
        await attempt(database, who)
        await attempt(database, other)
    async with database.transaction() as session:
        await clear(session, BACKOFF, who)
    assert await attempt(database, who) == 0
    assert await attempt(database, other) == 1


async def test_kinds_count_apart(database: Database) -> None:
    who = an_email()
    for _ in range(BACKOFF.free + 1):
        await attempt(database, who)
    assert await attempt(database, who, Backoff("other", 3, 60, 600)) == 0


async def test_a_count_that_grew_for_years_does_not_overflow(database: Database) -> None:
    who = an_email()
    await attempt(database, who)
    async with database.transaction() as session:
        await session.execute(
            update(SignInThrottle)
            .where(SignInThrottle.subject == BACKOFF.subject(who))
            .values(failures=2_000_000_000, updated_at=func.now())
        )
    assert await attempt(database, who) == 0
    assert await attempt(database, who) == 60


@pytest.mark.parametrize(
    ("address", "networks"),
    [
        ("203.0.113.7", ("203.0.0.0/16", "203.0.113.0/24", "203.0.113.7")),
        ("::ffff:203.0.113.7", ("203.0.0.0/16", "203.0.113.0/24", "203.0.113.7")),
        ("2001:db8:1:2:3:4:5:6", ("2001:db8::/32", "2001:db8:1::/48", "2001:db8:1:2::/64")),
        ("2001:db8:1:2::9", ("2001:db8::/32", "2001:db8:1::/48", "2001:db8:1:2::/64")),
        (None, ("unknown",) * 3),
        ("testclient", ("unknown",) * 3),
    ],
)
def test_what_an_address_counts_as(address: str | None, networks: tuple[str, str, str]) -> None:
    assert networks_of(address) == networks
    assert network_of(address) == networks[-1]


@pytest.mark.parametrize(
    ("free", "pattern"), [(SITE.free, "2a00:{0}:1:{1:x}::1"), (PROVIDER.free, "2a00:{0}:{1:x}::1")]
)
@pytest.mark.parametrize("count", [count_sign_in, count_request])
async def test_many_networks_of_one_holder_are_put_off(
    count: Callable[[AsyncSession, str], Awaitable[None]], free: int, pattern: str, database: Database
) -> None:
    provider = secrets.token_hex(2)
    async with database.transaction() as session:
        for number in range(free + 1):
            await count(session, pattern.format(provider, number))
    with pytest.raises(TooManyAttempts):
        async with database.transaction() as session:
            await count(session, pattern.format(provider, free + 1))
    async with database.transaction() as session:
        await count(session, an_address())


async def test_a_right_password_is_taken_back_from_all_of_them(database: Database) -> None:
    address = an_address()
    for _ in range(ADDRESS.free):
        async with database.transaction() as session:
            await count_sign_in(session, address)
    async with database.transaction() as session:
        await uncount_sign_in(session, address)
        query = select(SignInThrottle.failures).where(
            SignInThrottle.subject.in_(
                backoff.subject(network)
                for backoff, network in zip((PROVIDER, SITE, ADDRESS), networks_of(address), strict=True)
            )
        )
        assert list(await session.scalars(query)) == [ADDRESS.free - 1] * 3


@given(st.text())
def test_no_address_breaks_it(address: str) -> None:
    assert network_of(address)
