"""No cap, limit or balance is exceeded under concurrency, and none refuses falsely."""

import asyncio
from decimal import Decimal
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text, update

from farebox.billing.errors import InvalidAmount
from farebox.billing.funds import top_up
from farebox.billing.offers import add_model, remove_model
from farebox.billing.prices import set_price
from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.errors import FareboxError, Unavailable
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.keys.errors import InvalidApiKey
from farebox.keys.models import ApiKey
from farebox.limits.service import LimitChange, set_limits
from farebox.metering.admission import Grant
from farebox.metering.errors import ModelNotFound, OtherCurrency, QuotaExceeded, RateLimitExceeded
from farebox.metering.meter import Meter
from farebox.metering.quotas import Quota, Quotas
from farebox.tenants.models import Organization, Project
from tests.metering.factories import Account, assert_books_close, limit, open_account, read_books, used
from tests.owner import owner_transaction


async def admit_many(meter: Meter, account: Account, count: int) -> tuple[list[Grant], list[BaseException]]:
    outcomes = await asyncio.gather(
        *(meter.admit(account.admission(prompt=0, output=1_000_000)) for _ in range(count)),
        return_exceptions=True,
    )
    grants = [o for o in outcomes if isinstance(o, Grant)]
    return grants, [o for o in outcomes if isinstance(o, BaseException)]


async def test_200_concurrent_requests_against_a_balance_for_37(database: Database, meter: Meter) -> None:
    """Promise: no balance is overshot, none refuses falsely, nothing stays reserved."""
    account = await open_account(database, balance="75.99", price=("1", "1", "2"))
    grants, refusals = await admit_many(meter, account, 200)
    assert len(grants) == 37
    assert all(isinstance(refusal, QuotaExceeded) for refusal in refusals)
    books = await assert_books_close(database, account, funded=Decimal("75.99"))
    assert books.scopes[account.organization_id].reserved == 74
    await asyncio.gather(*(meter.settle(grant, used(0, 1_000_000)) for grant in grants))
    books = await assert_books_close(database, account, funded=Decimal("75.99"))
    assert books.scopes[account.organization_id].balance == Decimal("1.99")
    assert len(books.events) == 37
    assert books.holds == []


async def test_replicas_agree_on_one_balance(
    database: Database, settings: Settings, database_url: str, tmp_path: Path
) -> None:
    account = await open_account(database, balance="74.00", price=("1", "1", "2"))
    replicas = [await Meter.open(settings, database_url, tmp_path / str(n)) for n in range(3)]
    admitted = await asyncio.gather(*(admit_many(replica, account, 60) for replica in replicas))
    assert sum(len(grants) for grants, _ in admitted) == 37
    await asyncio.gather(
        *(
            replica.settle(grant, used(0, 500_000))
            for replica, (grants, _) in zip(replicas, admitted, strict=True)
            for grant in grants
        )
    )
    books = await assert_books_close(database, account, funded=Decimal("74.00"))
    assert books.scopes[account.organization_id].balance == 37
    for replica in replicas:
        await replica.close()


async def test_what_settles_below_its_worst_case_frees_the_rest(database: Database, meter: Meter) -> None:
    account = await open_account(database, balance="3.00", price=("1", "1", "2"))
    for _ in range(2):
        grant = await meter.admit(account.admission(prompt=0, output=1_000_000))
        with pytest.raises(QuotaExceeded):
            await meter.admit(account.admission(prompt=0, output=1_000_000))
        await meter.settle(grant, used(0, 250_000))
    await assert_books_close(database, account, funded=Decimal("3.00"))


@pytest.mark.parametrize("scope", ["organization_id", "project_id"])
async def test_the_monthly_cap_holds_under_concurrency(database: Database, meter: Meter, scope: str) -> None:
    account = await open_account(database, balance="1000", price=("1", "1", "2"))
    await limit(database, account, getattr(account, scope), LimitChange(monthly_cap=Decimal("21.00")))
    grants, refusals = await admit_many(meter, account, 50)
    assert len(grants) == 10
    assert isinstance(refusals[0], QuotaExceeded)
    assert refusals[0].status == 402
    assert "monthly spend cap of 21.00" in refusals[0].message
    await asyncio.gather(*(meter.settle(grant, used(0, 1_000_000)) for grant in grants))
    await assert_books_close(database, account, funded=Decimal(1000))


async def test_a_new_month_starts_with_the_whole_cap(database: Database, meter: Meter) -> None:
    account = await open_account(database, balance="1000", price=("1", "1", "2"))
    await limit(database, account, account.organization_id, LimitChange(monthly_cap=Decimal("2.00")))
    await meter.settle(await meter.admit(account.admission(0, 1_000_000)), used(0, 1_000_000))
    with pytest.raises(QuotaExceeded):
        await meter.admit(account.admission(0, 1_000_000))
    async with database.meter_transaction() as session:
        await session.execute(
            text("UPDATE meter_scope SET spend_month = spend_month - interval '1 month' WHERE id = :id"),
            {"id": account.organization_id},
        )
    grant = await meter.admit(account.admission(0, 1_000_000))
    await meter.settle(grant, used(0, 1_000_000))
    books = await read_books(database, account.organization_id)
    assert books.scopes[account.organization_id].spent == 2


@pytest.mark.parametrize("scope", ["organization_id", "project_id", "key_id"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (LimitChange(requests_per_minute=7), 7),
        (LimitChange(tokens_per_minute=100), 3),
        (LimitChange(concurrent_requests=5), 5),
    ],
)
async def test_rate_limits_admit_exactly_what_they_allow(
    database: Database, meter: Meter, scope: str, change: LimitChange, expected: int
) -> None:
    account = await open_account(database)
    await limit(database, account, getattr(account, scope), change)
    outcomes = await asyncio.gather(
        *(meter.admit(account.admission(10, 20)) for _ in range(40)), return_exceptions=True
    )
    refusals = [o for o in outcomes if isinstance(o, RateLimitExceeded)]
    assert len(refusals) == 40 - expected
    assert refusals[0].status == 429
    assert int(refusals[0].headers["Retry-After"]) >= 1
    assert scope.removesuffix("_id") in refusals[0].message


async def test_concurrency_frees_when_a_request_settles(database: Database, meter: Meter) -> None:
    account = await open_account(database)
    await limit(database, account, account.project_id, LimitChange(concurrent_requests=1))
    for _ in range(3):
        grant = await meter.admit(account.admission())
        with pytest.raises(RateLimitExceeded, match="concurrent"):
            await meter.admit(account.admission())
        await meter.settle(grant, used(10, 5))


async def test_unused_tokens_return_to_the_bucket_and_it_refills_with_time(
    database: Database, meter: Meter
) -> None:
    account = await open_account(database)
    await limit(database, account, account.key_id, LimitChange(tokens_per_minute=100))
    grant = await meter.admit(account.admission(prompt=10, output=80))
    with pytest.raises(RateLimitExceeded) as refused:
        await meter.admit(account.admission(prompt=10, output=20))
    assert 10 < refused.value.retry_after <= 12
    await meter.settle(grant, used(10, 40))
    grant = await meter.admit(account.admission(prompt=10, output=40))
    await meter.settle(grant, used(10, 40))
    with pytest.raises(RateLimitExceeded):
        await meter.admit(account.admission(prompt=10, output=40))
    async with database.meter_transaction() as session:
        await session.execute(
            text("UPDATE meter_scope SET refilled_at = refilled_at - interval '30 s' WHERE id = :id"),
            {"id": account.key_id},
        )
    assert await meter.admit(account.admission(prompt=10, output=40))


async def test_a_request_larger_than_its_limit_is_told_not_to_retry(database: Database, meter: Meter) -> None:
    account = await open_account(database)
    await limit(database, account, account.project_id, LimitChange(tokens_per_minute=100))
    with pytest.raises(RateLimitExceeded, match="larger than the limit itself") as refused:
        await meter.admit(account.admission(prompt=90, output=20))
    assert refused.value.headers["x-should-retry"] == "false"
    assert "Retry-After" not in refused.value.headers


async def test_the_verdict_tells_of_the_tightest_limit(database: Database, meter: Meter) -> None:
    account = await open_account(database)
    await limit(database, account, account.project_id, LimitChange(requests_per_minute=50))
    await limit(
        database, account, account.key_id, LimitChange(requests_per_minute=20, tokens_per_minute=6000)
    )
    quotas = (await meter.admit(account.admission(10, 20))).quotas
    assert quotas == Quotas(requests=Quota(20, 19), tokens=Quota(6000, 5970))


async def test_a_refusal_reserves_nothing(database: Database, meter: Meter) -> None:
    account = await open_account(database, balance="0")
    with pytest.raises(QuotaExceeded) as refused:
        await meter.admit(account.admission())
    assert refused.value.headers["x-should-retry"] == "false"
    assert (refused.value.limit, refused.value.scope) == ("balance", "organization")
    assert refused.value.scope_id == refused.value.organization_id == account.organization_id
    await assert_books_close(database, account, funded=Decimal(0))


@pytest.mark.parametrize(
    "harm", ["revoked", "expired", "digest", "absent", "archived", "suspended", "no_scope"]
)
async def test_the_row_authorises_from_the_next_request_on(
    database: Database, database_url: str, meter: Meter, harm: str
) -> None:
    account = await open_account(database)
    await meter.settle(await meter.admit(account.admission()), used(10, 1))
    key = {"revoked": {"revoked_at": utc_now()}, "expired": {"expires_at": utc_now()}}.get(harm)
    async with owner_transaction(database) as session:
        if key:
            await session.execute(update(ApiKey).where(ApiKey.id == account.key_id).values(key))
        elif harm == "no_scope":
            await session.execute(update(ApiKey).where(ApiKey.id == account.key_id).values(scopes=["admin"]))
        elif harm == "archived":
            project = Project.id == account.project_id
            await session.execute(update(Project).where(project).values(archived_at=utc_now()))
        elif harm == "suspended":
            organization = Organization.id == account.organization_id
            await session.execute(update(Organization).where(organization).values(status="suspended"))
    if harm == "digest":
        account = Account(
            account.organization_id, account.project_id, account.key_id, bytes(32), account.model_id
        )
    elif harm == "absent":
        account = Account(
            account.organization_id, account.project_id, new_id(), account.digest, account.model_id
        )
    with pytest.raises(InvalidApiKey):
        await meter.admit(account.admission())


async def test_models_unknown_unpriced_removed_or_not_allowed_look_alike(
    database: Database, meter: Meter
) -> None:
    account, other = await open_account(database), await open_account(database)
    unpriced = f"unpriced-{account.key_id.hex[-8:]}"
    async with database.meter_transaction() as session:
        await add_model(session, model_id=unpriced, path="/x", sha256="0", context_length=8, owned_by="us")
    messages = set()
    for model in ("absent", unpriced):
        with pytest.raises(ModelNotFound) as refused:
            await meter.admit(account.admission(model=model))
        messages.add(refused.value.message.replace(model, "M"))
    async with database.transaction(organization_id=account.organization_id) as session:
        await session.execute(
            update(ApiKey).where(ApiKey.id == account.key_id).values(models=[account.model_id])
        )
    await meter.admit(account.admission())
    with pytest.raises(ModelNotFound) as refused:
        await meter.admit(account.admission(model=other.model_id))
    messages.add(refused.value.message.replace(other.model_id, "M"))
    async with database.meter_transaction() as session:
        await remove_model(session, account.model_id)
    with pytest.raises(ModelNotFound) as refused:
        await meter.admit(account.admission())
    messages.add(refused.value.message.replace(account.model_id, "M"))
    assert len(messages) == 1


async def test_one_bad_request_does_not_spoil_its_batch(database: Database, meter: Meter) -> None:
    account = await open_account(database)
    good = [meter.admit(account.admission()) for _ in range(8)]
    poison = meter.admit(account.admission(model="nul\0"))
    outcomes = await asyncio.gather(*good[:4], poison, *good[4:], return_exceptions=True)
    assert sum(isinstance(outcome, Grant) for outcome in outcomes) == 8
    assert isinstance(outcomes[4], Exception)
    assert not isinstance(outcomes[4], FareboxError)


async def test_a_caller_cancelled_while_waiting_leaves_no_hold(
    database: Database, settings: Settings, database_url: str, tmp_path: Path
) -> None:
    account = await open_account(database)
    meter = await Meter.open(settings, database_url, tmp_path)
    waiting = [asyncio.create_task(meter.admit(account.admission())) for _ in range(5)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    assert all(
        isinstance(o, asyncio.CancelledError) for o in await asyncio.gather(*waiting, return_exceptions=True)
    )
    await meter.close()
    books = await assert_books_close(database, account, funded=Decimal(100))
    assert books.holds == []
    assert books.events == []


async def test_a_balance_in_one_currency_pays_for_no_price_in_another(
    database: Database, meter: Meter
) -> None:
    account = await open_account(database)
    async with database.meter_transaction() as session:
        await set_price(
            session,
            account.model_id,
            input_per_million=Decimal(1),
            cached_input_per_million=Decimal(1),
            output_per_million=Decimal(1),
            currency="EUR",
        )
    with pytest.raises(OtherCurrency, match="EUR"):
        await meter.admit(account.admission())
    with pytest.raises(InvalidAmount, match="kept in USD"):
        async with database.meter_transaction() as session:
            await top_up(
                session,
                organization_id=account.organization_id,
                amount=Decimal(1),
                currency="EUR",
                reference="second",
            )
    await assert_books_close(database, account, funded=Decimal(100))


@pytest.mark.parametrize("kind", ["key", "project", "organization"])
async def test_without_the_row_of_its_limits_nothing_is_admitted(
    database: Database, database_url: str, meter: Meter, kind: str
) -> None:
    account = await open_account(database)
    owner = await asyncpg.connect(database_url)
    await owner.execute(
        "DELETE FROM meter_scope WHERE organization_id = $1 AND kind = $2", account.organization_id, kind
    )
    await owner.close()
    with pytest.raises(InvalidApiKey):
        await meter.admit(account.admission())


async def test_a_change_of_limits_that_hangs_holds_admission_up_only_briefly(
    database: Database, meter: Meter
) -> None:
    account = await open_account(database)
    scope = account.organization_id
    admitted: list[Grant] = []

    async def change_limits_and_hang() -> None:
        async with database.transaction(organization_id=scope) as session:
            await set_limits(session, scope, scope, LimitChange(concurrent_requests=0))
            admitted.append(await meter.admit(account.admission()))

    with pytest.raises(Unavailable):  # what hung is ended, and changes nothing
        await change_limits_and_hang()
    await meter.settle(admitted[0], used(1, 1))
    assert len((await assert_books_close(database, account, funded=Decimal(100))).events) == 1
