"""Which money pays: promotional credit, what was paid in, the credit line; against an obvious reference."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from farebox.billing.errors import InvalidAmount, OtherTransfer
from farebox.billing.funds import grant_credit_line, take_back, top_up
from farebox.billing.ledger import account_balances, ledger_balance
from farebox.billing.promotions import expire, expire_grants, grant
from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.metering.admission import Grant
from farebox.metering.errors import QuotaExceeded
from farebox.metering.meter import Meter
from tests.billing.clock import Clock
from tests.metering.factories import Account, open_account, read_books, used
from tests.metering.outages import expire_handover

# A token costs a dollar: amounts can be read off.
A_DOLLAR = ("1000000", "1000000", "1000000")


async def pay_in(database: Database, account: Account, amount: int, reference: str) -> bool:
    async with database.meter_transaction() as session:
        return await top_up(
            session,
            organization_id=account.organization_id,
            amount=Decimal(amount),
            currency="USD",
            reference=reference,
        )


async def give(
    database: Database, account: Account, amount: int, reference: str, *, days: float | None = None
) -> bool:
    async with database.meter_transaction() as session:
        clock = session.info["farebox.clock"]
        return await grant(
            session,
            organization_id=account.organization_id,
            amount=Decimal(amount),
            currency="USD",
            reference=reference,
            expires_at=None if days is None else clock() + timedelta(days=days),
        )


async def lend(database: Database, account: Account, amount: int) -> None:
    async with database.meter_transaction() as session:
        await grant_credit_line(session, account.organization_id, amount=Decimal(amount), currency="USD")


async def run_out(database: Database, account: Account) -> Decimal:
    async with database.meter_transaction() as session:
        return await expire(session, account.organization_id)


async def spend(meter: Meter, account: Account, tokens: int) -> None:
    granted = await meter.admit(account.admission(prompt=tokens, output=0))
    await meter.settle(granted, used(tokens, 0))


async def credit(database: Database, meter: Meter, answer: Grant) -> None:
    """Its client had left."""
    meter.hand_over(answer, reached=False)
    await meter.turn()
    await expire_handover(database, answer.request_id)
    await meter.turn()


async def accounts_of(database: Database, account: Account) -> dict[str, int]:
    """What each account holds, in dollars."""
    async with database.meter_transaction() as session:
        held: Mapping[str, Decimal] = await account_balances(session, account.organization_id)
    assert sum(held.values()) == 0
    revenue = f"revenue:{account.model_id}"
    return {("revenue" if name == revenue else name): int(value) for name, value in held.items() if value}


async def test_promotional_credit_pays_first_then_money_then_the_line(
    database: Database, meter: Meter
) -> None:
    account = await open_account(database, balance="10", price=A_DOLLAR)
    await give(database, account, 5, "welcome")
    await lend(database, account, 20)
    await spend(meter, account, 3)
    assert await accounts_of(database, account) == {
        "cash": -10, "prepaid": 10, "promotion": -5, "promotional": 2, "revenue": 3,
    }  # fmt: skip
    await spend(meter, account, 14)
    assert await accounts_of(database, account) == {
        "cash": -10, "promotion": -5, "receivable": -2, "revenue": 17,
    }  # fmt: skip


async def test_one_batch_shares_one_purse(database: Database, meter: Meter) -> None:
    """Requests settled in one statement each find what those before them left."""
    account = await open_account(database, balance="4", price=A_DOLLAR)
    await give(database, account, 3, "welcome")
    await lend(database, account, 8)
    granted = [await meter.admit(account.admission(prompt=3, output=0)) for _ in range(5)]
    await asyncio.gather(*(meter.settle(each, used(3, 0)) for each in granted))
    assert await accounts_of(database, account) == {
        "cash": -4, "promotion": -3, "receivable": -8, "revenue": 15,
    }  # fmt: skip


@pytest.mark.parametrize("line", [0, 7])
async def test_the_balance_falls_to_minus_the_line_and_no_cent_below(
    database: Database, database_url: str, settings: Settings, tmp_path: Path, line: int
) -> None:
    """Asked on two replicas at once."""
    account = await open_account(database, balance="5", price=A_DOLLAR)
    if line:
        await lend(database, account, line)
    meters = [
        await Meter.open(settings, database_url, tmp_path / name, turn_seconds=None) for name in ("a", "b")
    ]
    tries = [each.admit(account.admission(prompt=1, output=0)) for each in meters for _ in range(10)]
    verdicts = await asyncio.gather(*tries, return_exceptions=True)
    refused = [verdict for verdict in verdicts if isinstance(verdict, QuotaExceeded)]
    assert len(verdicts) - len(refused) == 5 + line
    for meter, ten in zip(meters, (verdicts[:10], verdicts[10:]), strict=True):
        await asyncio.gather(*(meter.settle(each, used(1, 0)) for each in ten if each not in refused))  # type: ignore[arg-type]
        await meter.close()
    assert await balance_of(database, account) == -line


async def test_a_payment_settles_the_line_before_it_is_prepaid(database: Database, meter: Meter) -> None:
    account = await open_account(database, balance="0", price=A_DOLLAR)
    await lend(database, account, 20)
    await spend(meter, account, 12)
    await pay_in(database, account, 15, "transfer 1")
    assert await accounts_of(database, account) == {"cash": -15, "prepaid": 3, "revenue": 12}
    assert not await pay_in(database, account, 15, "transfer 1")
    assert await balance_of(database, account) == 3


async def test_a_line_is_not_lowered_below_what_is_drawn_or_reserved(
    database: Database, meter: Meter
) -> None:
    account = await open_account(database, balance="0", price=A_DOLLAR)
    await lend(database, account, 20)
    await spend(meter, account, 3)
    granted = await meter.admit(account.admission(prompt=4, output=0))
    with pytest.raises(InvalidAmount, match=r"7\.00 USD of the line"):
        await lend(database, account, 6)
    await lend(database, account, 7)
    await meter.settle(granted, used(4, 0))
    with pytest.raises(QuotaExceeded):
        await meter.admit(account.admission(prompt=1, output=0))


async def test_what_a_grant_had_left_expires_and_once(database: Database, meter: Meter, clock: Clock) -> None:
    account = await open_account(database, balance="10", price=A_DOLLAR)
    await give(database, account, 5, "soon", days=1)
    await give(database, account, 5, "late", days=30)
    await spend(meter, account, 2)
    clock.advance(days=2)
    await expire_grants(database)
    assert await expire_grants(database) == 0
    assert await run_out(database, account) == 0
    held = await accounts_of(database, account)
    assert (held["promotional"], held["prepaid"], held["promotion"]) == (5, 10, -7)
    assert await balance_of(database, account) == 15


async def test_credit_that_comes_back_to_no_grant_expires_but_for_what_is_reserved(
    database: Database, meter: Meter, clock: Clock
) -> None:
    account = await open_account(database, balance="0", price=A_DOLLAR)
    await give(database, account, 10, "soon", days=1)
    answer = await meter.admit(account.admission(prompt=10, output=0))
    await meter.settle(answer, used(10, 0, to_be_handed_over=True))
    clock.advance(days=2)
    await run_out(database, account)
    await credit(database, meter, answer)
    running = await meter.admit(account.admission(prompt=4, output=0))
    await expire_grants(database)
    await meter.settle(running, used(4, 0))
    await expire_grants(database)
    assert await accounts_of(database, account) == {"promotion": -4, "revenue": 4}


async def test_what_is_drawn_stays_drawn_whatever_credit_is_given_beside(
    database: Database, meter: Meter
) -> None:
    account = await open_account(database, balance="0", price=A_DOLLAR)
    await lend(database, account, 10)
    await spend(meter, account, 10)
    await give(database, account, 10, "welcome")
    with pytest.raises(InvalidAmount, match=r"10\.00 USD of the line"):
        await lend(database, account, 0)


async def test_expiry_leaves_what_requests_under_way_have_reserved(
    database: Database, meter: Meter, clock: Clock
) -> None:
    account = await open_account(database, balance="0", price=A_DOLLAR)
    await give(database, account, 5, "welcome", days=1)
    granted = await meter.admit(account.admission(prompt=3, output=0))
    clock.advance(days=2)
    assert await run_out(database, account) == 2
    await meter.settle(granted, used(2, 0))
    assert await run_out(database, account) == 1
    assert await accounts_of(database, account) == {"promotion": -2, "revenue": 2}


async def test_a_credited_answer_goes_back_to_the_purses_that_paid(database: Database, meter: Meter) -> None:
    account = await open_account(database, balance="2", price=A_DOLLAR)
    await give(database, account, 3, "welcome")
    await lend(database, account, 5)
    before = await accounts_of(database, account)
    granted = await meter.admit(account.admission(prompt=8, output=0))
    await meter.settle(granted, used(8, 0, to_be_handed_over=True))
    await credit(database, meter, granted)
    assert await accounts_of(database, account) == before
    assert (await read_books(database, account.organization_id)).ledger_balance == 5


async def test_what_comes_back_settles_the_line_and_after_it_is_money(
    database: Database, meter: Meter
) -> None:
    """Of two answers that nobody got one was paid with money and the other drawn on the line."""
    account = await open_account(database, balance="10", price=A_DOLLAR)
    await lend(database, account, 50)
    answers = []
    for _ in range(2):
        answers.append(await meter.admit(account.admission(prompt=10, output=0)))
        await meter.settle(answers[-1], used(10, 0, to_be_handed_over=True))
    await credit(database, meter, answers[0])
    assert await accounts_of(database, account) == {"cash": -10, "revenue": 10}
    await credit(database, meter, answers[1])
    assert await accounts_of(database, account) == {"cash": -10, "prepaid": 10}


@pytest.mark.parametrize("amount", ["0", "-1", "0.001", "NaN", "Infinity", "1000001"])
async def test_what_is_no_amount_is_refused(database: Database, amount: str) -> None:
    account = await open_account(database)
    for give_or_pay in (top_up, grant):
        with pytest.raises(InvalidAmount):
            async with database.meter_transaction() as session:
                await give_or_pay(
                    session,
                    organization_id=account.organization_id,
                    amount=Decimal(amount),
                    currency="USD",
                    reference="odd",
                )
    assert await balance_of(database, account) == 100


async def test_a_reference_names_one_transfer(database: Database) -> None:
    account = await open_account(database, balance="0")
    assert await pay_in(database, account, 5, "receipt 7")
    assert not await pay_in(database, account, 5, "receipt 7")
    for other in (pay_in(database, account, 6, "receipt 7"), give(database, account, 5, "receipt 7")):
        with pytest.raises(OtherTransfer) as refused:
            await other
        assert refused.value.status == 409
    assert await accounts_of(database, account) == {"cash": -5, "prepaid": 5}


async def test_given_credit_is_not_taken_back_as_if_it_had_been_paid(database: Database) -> None:
    account = await open_account(database, balance="2")
    await give(database, account, 9, "welcome")
    with pytest.raises(InvalidAmount, match=r"No more than 2\.00 USD"):
        async with database.meter_transaction() as session:
            await take_back(
                session,
                organization_id=account.organization_id,
                amount=Decimal(3),
                currency="USD",
                reason="typing error",
            )


@dataclass
class Purse:
    """The reference: every dollar by itself, as anybody would count on paper."""

    line: int = 0
    paid: int = 0
    owed: int = 0
    grants: list[list[float]] = field(default_factory=list)  # [expires at, dollars]

    def pay_in(self, amount: int) -> None:
        settled = min(self.owed, amount)
        self.owed -= settled
        self.paid += amount - settled

    def spend(self, amount: int) -> bool:
        if amount > self.promotional + self.paid + self.line - self.owed:
            return False
        for _ in range(amount):
            full = [each for each in self.grants if each[1]]
            if full:
                min(full, key=lambda each: each[0])[1] -= 1
            elif self.paid:
                self.paid -= 1
            else:
                self.owed += 1
        return True

    def expire(self, day: float) -> None:
        self.grants = [each for each in self.grants if each[0] > day]

    @property
    def promotional(self) -> int:
        return int(sum(each[1] for each in self.grants))


@pytest.mark.parametrize("seed", range(6))
async def test_purses_are_those_of_a_slow_reference(
    database: Database, meter: Meter, clock: Clock, seed: int
) -> None:
    random = Random(seed)
    account = await open_account(database, balance="0", price=A_DOLLAR)
    reference, day = Purse(), 0.0
    await give(database, account, 1, "first")  # what makes the purse's currency known
    reference.grants.append([float("inf"), 1])
    for step in range(60):
        amount = random.randint(1, 9)
        match random.choice(("pay", "give", "spend", "spend", "spend", "lend", "wait")):
            case "pay":
                await pay_in(database, account, amount, f"step {step}")
                reference.pay_in(amount)
            case "give":
                days = random.choice((1.5, 4.5, 9.5, None))
                await give(database, account, amount, f"step {step}", days=days)
                reference.grants.append([float("inf") if days is None else day + days + step / 1e6, amount])
            case "lend":
                line = max(amount, reference.owed)
                await lend(database, account, line)
                reference.line = line
            case "wait":
                clock.advance(days=1)
                day += 1
                await run_out(database, account)
                reference.expire(day)
            case _:
                affordable = reference.spend(amount)
                if affordable:
                    await spend(meter, account, amount)
                else:
                    with pytest.raises(QuotaExceeded):
                        await meter.admit(account.admission(prompt=amount, output=0))
        held = await accounts_of(database, account)
        assert (
            held.get("promotional", 0), held.get("prepaid", 0), -held.get("receivable", 0),
        ) == (reference.promotional, reference.paid, reference.owed), (seed, step)  # fmt: skip
        assert await balance_of(database, account) == (
            reference.promotional + reference.paid - reference.owed
        )


async def balance_of(database: Database, account: Account) -> Decimal:
    """Admission's balance, which the ledger's equals."""
    books = await read_books(database, account.organization_id)
    async with database.meter_transaction() as session:
        told = await ledger_balance(session, account.organization_id)
    balance = books.scopes[account.organization_id].balance
    assert balance == told
    return told
