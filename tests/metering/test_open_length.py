"""Requests that do not say how long their answer may be."""

from decimal import Decimal

import pytest

from farebox.core.database import Database
from farebox.limits.service import LimitChange
from farebox.metering.errors import QuotaExceeded, RateLimitExceeded
from farebox.metering.meter import Meter
from tests.metering.factories import Account, assert_books_close, limit, open_account, read_books, used

# A dollar a token.
PRICE = ("1000000", "1000000", "1000000")


async def token_level(database: Database, account: Account) -> float:
    level = (await read_books(database, account.organization_id)).scopes[account.project_id].token_level
    assert level is not None
    return level


async def test_a_short_balance_lowers_what_is_granted_and_reserved(database: Database, meter: Meter) -> None:
    account = await open_account(database, balance="60", price=PRICE)
    grant = await meter.admit(account.open_admission(10, 4096))
    assert grant.max_output_tokens == 50
    assert grant.reserved == 60
    with pytest.raises(QuotaExceeded, match=r"cost of \$?11"):  # that of the shortest answer
        await meter.admit(account.open_admission(10, 4096))
    await meter.settle(grant, used(10, 20))
    grant = await meter.admit(account.open_admission(10, 4096, least=20))
    assert grant.max_output_tokens == 20
    await meter.settle(grant, used(10, 20))
    books = await assert_books_close(database, account, funded=Decimal(60))
    assert books.scopes[account.organization_id].balance == 0


async def test_so_do_the_caps_of_all_scopes(database: Database, meter: Meter) -> None:
    account = await open_account(database, balance="5000", price=PRICE)
    for scope_id, cap in ((account.organization_id, 400), (account.project_id, 300)):
        await limit(database, account, scope_id, LimitChange(monthly_cap=Decimal(cap)))
        grant = await meter.admit(account.open_admission(10, 4096))
        assert grant.max_output_tokens == cap - 10
        await meter.settle(grant, used(0, 0))


async def test_a_length_that_was_asked_for_is_granted_whole_or_not_at_all(
    database: Database, meter: Meter
) -> None:
    account = await open_account(database, balance="60", price=PRICE)
    with pytest.raises(QuotaExceeded):
        await meter.admit(account.admission(10, 51))
    assert (await meter.admit(account.admission(10, 50))).max_output_tokens == 50


async def test_what_costs_nothing_is_not_lowered(database: Database, meter: Meter) -> None:
    account = await open_account(database, balance="0", price=("0", "0", "0"))
    assert (await meter.admit(account.open_admission(10, 4096))).max_output_tokens == 4096


async def test_a_rate_limit_counts_what_is_expected_and_in_the_end_what_was_used(
    database: Database, meter: Meter
) -> None:
    account = await open_account(database)
    await limit(database, account, account.project_id, LimitChange(tokens_per_minute=6000))
    grants = [await meter.admit(account.open_admission(10, 4096, expected=990)) for _ in range(6)]
    assert {grant.max_output_tokens for grant in grants} == {4096}
    with pytest.raises(RateLimitExceeded, match="tokens"):
        await meter.admit(account.open_admission(10, 4096, expected=990))
    short, *long = grants
    before = await token_level(database, account)
    await meter.settle(short, used(10, 90))
    assert await token_level(database, account) == pytest.approx(before + 900)
    for grant in long:
        await meter.settle(grant, used(10, 3990))
    assert await token_level(database, account) == pytest.approx(before + 900 - 5 * 3000)
    with pytest.raises(RateLimitExceeded, match="tokens") as refusal:
        await meter.admit(account.admission(1, 1))
    assert refusal.value.quotas.tokens is not None
    assert refusal.value.quotas.tokens.left < 0
