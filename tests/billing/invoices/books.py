"""Months of the past, written as settlement and the services write them, and then dated back."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
from sqlalchemy import text

from farebox.billing.funds import grant_credit_line, pay, top_up
from farebox.billing.invoices.documents.document import InvoiceDocument, from_json
from farebox.billing.invoices.models import Invoice
from farebox.billing.invoices.months.closing import close_month
from farebox.billing.invoices.months.drafting import draft
from farebox.billing.invoices.months.month import parse_month
from farebox.billing.ledger import account_balances, ledger_balance
from farebox.billing.models import LedgerTransfer
from farebox.billing.months import Month
from farebox.billing.promotions import grant
from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.limits.balances import add_promotional_credit, add_to_balance, lock_balance
from tests.metering.factories import Account, open_account
from tests.usage.usage_history import add_usage

MONTH = parse_month("2025-03")
SELLER = Settings(
    issuer_name="Farebox Ltd",
    issuer_address="1 Quay Street; Harbourtown",
    issuer_tax_id="XX 123",
    issuer_payment="IBAN XX00 0000",
)

_LEG = text("SELECT farebox_leg(:request, :account)")
_FUND = text("SELECT * FROM farebox_fund(:balance, :promotional, 0, :amount)")


@dataclass(frozen=True)
class Books:
    """A database, and the owner's way into it; `seller` are settings that name an issuer."""

    database: Database
    url: str
    seller: Settings

    async def customer(self, *, line: int = 0) -> Account:
        """An organization without money; with a credit line if it is above 0."""
        account = await open_account(self.database, balance="0")
        if line:
            await self.lend(account, line)
        return account

    async def lend(self, account: Account, line: int) -> None:
        async with self.database.meter_transaction() as session:
            await grant_credit_line(session, account.organization_id, amount=Decimal(line), currency="USD")

    async def use(
        self, account: Account, at: datetime, *, currency: str = "USD", model: str = "demo", **usage: Any
    ) -> Decimal:
        """Usage that was settled at a moment; the purses pay in their order. Returns the amount."""
        amount = await add_usage(
            self.database,
            organization_id=account.organization_id,
            project_id=usage.pop("project_id", account.project_id),
            api_key_id=account.key_id,
            at=at,
            model=model,
            currency=currency,
            **usage,
        )
        await self._draw(account, at, amount, currency, model)
        return amount

    async def _draw(self, account: Account, at: datetime, amount: Decimal, currency: str, model: str) -> None:
        request = new_id()
        async with self.database.meter_transaction() as session:
            purse = await lock_balance(session, account.organization_id)
            values = {"balance": purse.balance, "promotional": purse.promotional, "amount": amount}
            paid = (await session.execute(_FUND, values)).one()
            legs = {
                "promotional": paid.promotional,
                "prepaid": paid.prepaid,
                "receivable": amount - paid.promotional - paid.prepaid,
            }
            for name, part in legs.items():
                if part:
                    session.add(
                        LedgerTransfer(
                            id=await session.scalar(_LEG, {"request": request, "account": name}),
                            organization_id=account.organization_id,
                            request_id=request,
                            kind="usage",
                            debit_account=name,
                            credit_account=f"revenue:{model}",
                            amount=part,
                            currency=currency,
                            created_at=at,
                        )
                    )
            owner = account.organization_id
            if paid.promotional:
                await add_promotional_credit(session, owner, amount=-paid.promotional, currency=currency)
            if amount - paid.promotional:
                await add_to_balance(session, owner, amount=paid.promotional - amount, currency=currency)

    async def pay_in(
        self, account: Account, amount: str, at: datetime, *, reference: str | None = None
    ) -> None:
        async with self.database.meter_transaction() as session:
            await top_up(
                session,
                organization_id=account.organization_id,
                amount=Decimal(amount),
                currency="USD",
                reference=reference or f"transfer {new_id()}",
            )
        await self._date_back(account, at)

    async def give(self, account: Account, amount: str, at: datetime) -> None:
        async with self.database.meter_transaction() as session:
            await grant(
                session,
                organization_id=account.organization_id,
                amount=Decimal(amount),
                currency="USD",
                reference=f"gift {new_id()}",
            )
        await self._date_back(account, at)

    async def charge_fee(self, account: Account, amount: str, at: datetime) -> None:
        """A plan's fee for the month."""
        async with self.database.meter_transaction() as session:
            assert await pay(
                session,
                account.organization_id,
                amount=Decimal(amount),
                currency="USD",
                account="revenue:team plan",
                reference=f"fee {new_id()}",
            )
        await self._date_back(account, at)

    async def _date_back(self, account: Account, at: datetime) -> None:
        owner = await asyncpg.connect(self.url)
        await owner.execute(
            "UPDATE ledger_transfer SET created_at = $1 WHERE organization_id = $2"
            " AND created_at > clock_timestamp() - interval '1 hour'",
            at,
            account.organization_id,
        )
        await owner.close()

    async def close(self, account: Account, month: Month = MONTH, currency: str = "USD") -> Invoice:
        async with self.database.meter_transaction() as session:
            return await close_month(session, account.organization_id, month, currency, self.seller)

    async def close_if_used(self, account: Account, month: Month) -> Invoice | None:
        """As the worker does, who closes for those that did something in the month."""
        async with self.database.meter_transaction() as session:
            drafted = await draft(session, account.organization_id, month, "USD")
        return await self.close(account, month) if drafted.lines or drafted.movements else None

    async def accounts(self, account: Account) -> dict[str, Decimal]:
        """What each account holds, those that hold nothing left out; the balances agree."""
        async with self.database.meter_transaction() as session:
            held: Mapping[str, Decimal] = await account_balances(session, account.organization_id)
            purse = await lock_balance(session, account.organization_id)
            assert purse.balance == await ledger_balance(session, account.organization_id)
        assert sum(held.values()) == 0
        return {name: amount for name, amount in held.items() if amount}

    async def receivable(self, account: Account) -> Decimal:
        return -(await self.accounts(account)).get("receivable", Decimal(0))

    async def reload(self, invoice: Invoice) -> Invoice:
        async with self.database.meter_transaction() as session:
            found = await session.get(Invoice, invoice.id)
        assert found is not None
        return found


def document(invoice: Invoice) -> InvoiceDocument:
    return from_json(invoice.document)


def day(number: int, month: Month = MONTH) -> datetime:
    """Noon of a day of the month."""
    return month.start + timedelta(days=number - 1, hours=12)
