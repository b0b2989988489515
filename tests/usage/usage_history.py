"""Usage at times of one's choosing, written as settlement writes it: an event and its hourly sum."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text

from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.money import charge
from farebox.metering.models import UsageEvent

ROLL_UP = text("""
INSERT INTO usage_hour AS u (organization_id, hour, project_id, api_key_id, model_id, currency,
    requests, input_tokens, cached_input_tokens, output_tokens, amount)
SELECT organization_id, date_trunc('hour', created_at, 'UTC'), project_id, api_key_id, model_id, currency,
    1, input_tokens, cached_input_tokens, output_tokens, amount
FROM usage_event WHERE request_id = :request_id
ON CONFLICT (organization_id, hour, project_id, api_key_id, model_id, currency) DO UPDATE
SET requests = u.requests + 1,
    input_tokens = u.input_tokens + excluded.input_tokens,
    cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
    output_tokens = u.output_tokens + excluded.output_tokens,
    amount = u.amount + excluded.amount
""")


async def add_usage(
    database: Database,
    *,
    organization_id: UUID,
    project_id: UUID,
    api_key_id: UUID,
    at: datetime,
    model: str = "demo",
    input_tokens: int = 0,
    cached_input_tokens: int = 0,
    output_tokens: int = 0,
    price: tuple[str, str, str] = ("1", "0.5", "2"),
    currency: str = "USD",
    status: str = "completed",
) -> Decimal:
    """Returns the amount."""
    prices = [Decimal(each) for each in price]
    tokens = [input_tokens, cached_input_tokens, output_tokens]
    amount = sum((charge(n, unit) for n, unit in zip(tokens, prices, strict=True)), Decimal(0))
    request_id = new_id()
    async with database.meter_transaction() as session:
        session.add(
            UsageEvent(
                request_id=request_id,
                created_at=at,
                admitted_at=at,
                organization_id=organization_id,
                project_id=project_id,
                api_key_id=api_key_id,
                model_id=model,
                status=status,
                input_tokens=input_tokens,
                cached_input_tokens=cached_input_tokens,
                output_tokens=output_tokens,
                price_id=new_id(),
                input_per_million=prices[0],
                cached_input_per_million=prices[1],
                output_per_million=prices[2],
                amount=amount,
                currency=currency,
                first_token_seconds=0.08,
            )
        )
        await session.flush()
        await session.execute(ROLL_UP, {"request_id": request_id})
    return amount
