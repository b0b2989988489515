"""Usage at times of one's choosing, written as settlement writes it: events and their sums."""

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text

from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.money import charge
from farebox.metering.models import UsageEvent

# What settlement adds to the sums, of events that were written without it.
_HOURS = """
INSERT INTO usage_hour AS u (organization_id, hour, project_id, api_key_id, model_id, currency,
    requests, input_tokens, cached_input_tokens, output_tokens, amount, input_amount, cached_input_amount)
SELECT organization_id, date_trunc('hour', created_at, 'UTC'), project_id, api_key_id, model_id, currency,
    count(*), sum(input_tokens), sum(cached_input_tokens), sum(output_tokens),
    sum(amount), sum(input_amount), sum(cached_input_amount)
FROM usage_event
WHERE {condition}
GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT (organization_id, hour, project_id, api_key_id, model_id, currency) DO UPDATE
SET requests = u.requests + excluded.requests,
    input_tokens = u.input_tokens + excluded.input_tokens,
    cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
    output_tokens = u.output_tokens + excluded.output_tokens,
    amount = u.amount + excluded.amount,
    input_amount = u.input_amount + excluded.input_amount,
    cached_input_amount = u.cached_input_amount + excluded.cached_input_amount
"""
_MINUTES = """
INSERT INTO usage_minute AS u (organization_id, minute, project_id, api_key_id, model_id, currency,
    requests, input_tokens, cached_input_tokens, output_tokens, amount)
SELECT organization_id, date_trunc('minute', created_at, 'UTC'), project_id, api_key_id, model_id, currency,
    count(*), sum(input_tokens), sum(cached_input_tokens), sum(output_tokens), sum(amount)
FROM usage_event WHERE {condition}
GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT (organization_id, minute, project_id, api_key_id, model_id, currency) DO UPDATE
SET requests = u.requests + excluded.requests,
    input_tokens = u.input_tokens + excluded.input_tokens,
    cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
    output_tokens = u.output_tokens + excluded.output_tokens,
    amount = u.amount + excluded.amount
"""
_EVENTS = """
INSERT INTO usage_event (request_id, created_at, admitted_at, organization_id, project_id, api_key_id,
    model_id, status, input_tokens, cached_input_tokens, output_tokens, price_id, input_per_million,
    cached_input_per_million, output_per_million, amount, currency, input_amount, cached_input_amount)
SELECT gen_random_uuid(), moment, moment, :organization_id, :project_id, :api_key_id,
    :model, 'completed', 100, 50, 200, gen_random_uuid(), 0.5, 0.25, 1.5, 0.0003625, 'USD', 0.00005,
    0.0000125
FROM (
    SELECT CAST(:start AS timestamptz) + (number - 1) * CAST(:span AS interval) / :number AS moment
    FROM generate_series(1, :number) AS number
) AS moments
"""
_BY_EVENT = [text(each.format(condition="request_id = :request_id")) for each in (_HOURS, _MINUTES)]
_WITHIN = (
    "api_key_id = :api_key_id AND created_at >= :start AND created_at < :start + CAST(:span AS interval)"
)
_BY_SPAN = [text(each.format(condition=_WITHIN)) for each in (_HOURS, _MINUTES)]


async def add_history(
    database: Database,
    *,
    organization_id: UUID,
    project_id: UUID,
    api_key_id: UUID,
    model: str,
    start: datetime,
    span: timedelta,
    number: int,
) -> None:
    """`number` events evenly over `span`, in which the key has none yet: 100, 50 and 200 tokens each, at
    0.5, 0.25 and 1.5 USD a million."""
    values = {
        "organization_id": organization_id,
        "project_id": project_id,
        "api_key_id": api_key_id,
        "model": model,
        "start": start,
        "span": span,
        "number": number,
    }
    async with database.meter_transaction() as session:
        for statement in (text(_EVENTS), *_BY_SPAN):
            await session.execute(statement, values)


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
                input_amount=charge(input_tokens, prices[0]),
                cached_input_amount=charge(cached_input_tokens, prices[1]),
                currency=currency,
                first_token_seconds=0.08,
            )
        )
        await session.flush()
        for statement in _BY_EVENT:
            await session.execute(statement, {"request_id": request_id})
    return amount
