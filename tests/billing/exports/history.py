"""Books of days gone by: usage with its transfers, and others, as settlement and billing write them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from farebox.billing.models import LedgerTransfer
from farebox.core.database import Database
from farebox.core.ids import new_id
from tests.metering.factories import Account
from tests.usage.usage_history import add_usage

_GIVEN_BACK = """
INSERT INTO usage_hour (organization_id, hour, project_id, api_key_id, model_id, currency, requests,
    input_tokens, cached_input_tokens, output_tokens, amount, input_amount, cached_input_amount)
SELECT organization_id, CAST(:at AS timestamptz), project_id, api_key_id, model_id, currency, 0,
    -sum(input_tokens), -sum(cached_input_tokens), -sum(output_tokens), -sum(amount), -sum(input_amount),
    -sum(cached_input_amount)
FROM usage_hour WHERE organization_id = :organization
GROUP BY organization_id, project_id, api_key_id, model_id, currency
"""
_TURNED_ROUND = """
INSERT INTO ledger_transfer (id, organization_id, kind, debit_account, credit_account, amount, currency,
    reason, created_at)
SELECT gen_random_uuid(), organization_id, 'adjustment', credit_account, debit_account, amount, currency,
    'undelivered', :at
FROM ledger_transfer WHERE organization_id = :organization AND kind = 'usage'
"""

START = datetime(2026, 3, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass
class History:
    """One account's past. Moments are hours after START."""

    database: Database
    account: Account

    async def use(
        self,
        hours: float,
        *,
        paid_by: str = "prepaid",
        input_tokens: int = 1000,
        cached_input_tokens: int = 0,
        output_tokens: int = 0,
        **usage: Any,
    ) -> Decimal:
        """A request and its transfer; what it came to."""
        at = START + hours * HOUR
        model = usage.pop("model", self.account.model_id)
        amount = await add_usage(
            self.database,
            organization_id=self.account.organization_id,
            project_id=self.account.project_id,
            api_key_id=self.account.key_id,
            at=at,
            model=model,
            input_tokens=input_tokens,
            cached_input_tokens=cached_input_tokens,
            output_tokens=output_tokens,
            **usage,
        )
        currency = usage.get("currency", "USD")
        if amount:
            await self.move(hours, "usage", paid_by, f"revenue:{model}", amount, currency=currency)
        return amount

    async def give_back(self, hours: float) -> None:
        """All that was used, as `farebox_credit` gives back what nobody got.

        In the sums of a later hour, and in transfers that are those of the usage turned round.
        """
        values = {"organization": self.account.organization_id, "at": START + hours * HOUR}
        async with self.database.meter_transaction() as session:
            for statement in (_GIVEN_BACK, _TURNED_ROUND):
                await session.execute(text(statement), values)

    async def move(
        self, hours: float, kind: str, debit: str, credit: str, amount: Decimal | str, **more: Any
    ) -> None:
        """A transfer from an account to another."""
        async with self.database.meter_transaction() as session:
            session.add(
                LedgerTransfer(
                    id=new_id(),
                    organization_id=self.account.organization_id,
                    kind=kind,
                    debit_account=debit,
                    credit_account=credit,
                    amount=Decimal(amount),
                    created_at=START + hours * HOUR,
                    **({"currency": "USD"} | more),
                )
            )

    async def of_everything(self) -> None:
        """A little of all that can be in the books."""
        await self.move(0, "top_up", "cash", "prepaid", "20", reference="=receipt 1")
        await self.move(0, "grant", "promotion", "promotional", "3", reference="welcome")
        await self.use(1.5, paid_by="promotional", input_tokens=700, cached_input_tokens=90, output_tokens=41)
        await self.use(2.5, output_tokens=1234)
        await self.use(2.75, paid_by="receivable", model="another", output_tokens=17)
        await self.move(3, "fee", "prepaid", "revenue:Pro plan", "5", reference="Pro plan, 2026-03, prepaid")
        await self.move(3, "fee", "receivable", "revenue:Pro plan", "1", reference="Pro plan, receivable")
        await self.move(5, "expiry", "promotional", "promotion", "1", reference="expiry 1")
        await self.move(6, "top_up", "cash", "prepaid", "10", reference="receipt 2")
        await self.move(6, "application", "prepaid", "receivable", "1", reference="receipt 2, paid off")
        await self.move(7, "adjustment", "prepaid", "cash", "0.5", reference="typing error")
        await self.move(8, "tax", "receivable", "tax", "0.19", reference="tax 1")
        await self.move(8, "processor_fee", "processor_fees", "cash", "0.59", reference="fee of receipt 2")
        await self.move(9, "refund", "prepaid", "refunds", "2", reference="refund 1")
        await self.move(10, "refund", "refunds", "cash", "2", reference="refund 1, sent")
        await self.move(11, "rounding", "receivable", "rounding", "0.001", reference="rounding 1")
        await self.move(12, "payment", "cash", "receivable", "0.19", reference="payment 1")
