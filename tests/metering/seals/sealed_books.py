"""Customers with usage in hours of one's choosing, and what the books say of an hour, put together anew."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import select, text

from farebox.core.database import Database
from farebox.core.ids import external, new_id
from farebox.core.merkle import MerkleTree, leaf_hash
from farebox.metering.models import UsageAmendment, UsageEvent
from tests.owner import owner_transaction
from tests.usage.usage_history import add_usage

_AGAIN = """
CREATE TEMPORARY TABLE again ON COMMIT DROP AS SELECT * FROM usage_event WHERE request_id = :id
"""
_OF_NOTHING = """
UPDATE again SET created_at = created_at + interval '1 microsecond', input_tokens = 0,
    cached_input_tokens = 0, output_tokens = 0, items = 0, amount = 0, input_amount = 0,
    cached_input_amount = 0, item_amount = 0
"""
NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)


@dataclass
class Customer:
    """An organization that uses the model `demo`."""

    database: Database
    organization_id: UUID = field(default_factory=new_id)
    project_id: UUID = field(default_factory=new_id)
    api_key_id: UUID = field(default_factory=new_id)

    async def use(self, at: datetime, *, number: int = 1) -> UUID:
        """The id of the last of `number` requests, a second apart."""
        for second in range(number):
            await add_usage(
                self.database,
                organization_id=self.organization_id,
                project_id=self.project_id,
                api_key_id=self.api_key_id,
                at=at + timedelta(seconds=second),
                input_tokens=10,
                output_tokens=20 + second,
            )
        async with self.database.meter_transaction() as session:
            query = (
                select(UsageEvent.request_id)
                .where(UsageEvent.organization_id == self.organization_id)
                .order_by(UsageEvent.created_at.desc())
            )
            found: UUID = (await session.scalars(query)).first()  # type: ignore[assignment]
            return found

    async def amend(self, request_id: UUID, at: datetime) -> None:
        """Take the whole request back, as of an answer that nobody got."""
        async with self.database.meter_transaction() as session:
            await session.execute(
                text("""
                INSERT INTO usage_amendment SELECT request_id, :at, organization_id, project_id, api_key_id,
                    model_id, 'undelivered', -input_tokens, -cached_input_tokens, -output_tokens,
                    input_per_million, cached_input_per_million, output_per_million, -amount, currency,
                    -items, -input_amount, -cached_input_amount, -item_amount
                FROM usage_event WHERE request_id = :id
                """),
                {"id": request_id, "at": at},
            )


def open_customer(database: Database) -> Customer:
    return Customer(database)


async def alter(database: Database, request_id: UUID) -> None:
    """As somebody would who may do everything in Postgres."""
    async with owner_transaction(database) as session:
        await session.execute(
            text("UPDATE usage_event SET output_tokens = output_tokens + 1 WHERE request_id = :id"),
            {"id": request_id},
        )


async def book_twice(database: Database, request_id: UUID) -> None:
    """The same event again, of nothing, a moment later: only the moment keeps the two apart."""
    async with owner_transaction(database) as session:
        await session.execute(text(_AGAIN), {"id": request_id})
        await session.execute(text(_OF_NOTHING))
        await session.execute(text("INSERT INTO usage_event SELECT * FROM again"))


def leaf_of(entry: UsageEvent | UsageAmendment) -> bytes:
    """The text of an entry, put together from its columns."""
    named: dict[str, Any] = {
        "kind": "event" if isinstance(entry, UsageEvent) else "amendment",
        "request_id": external("req", entry.request_id),
        "organization_id": external("org", entry.organization_id),
        "project_id": external("proj", entry.project_id),
        "api_key_id": external("key", entry.api_key_id),
        "model": entry.model_id,
        "status": entry.status,
        "input_tokens": entry.input_tokens,
        "cached_input_tokens": entry.cached_input_tokens,
        "output_tokens": entry.output_tokens,
    }
    if isinstance(entry, UsageEvent):
        named["price_id"] = external("price", entry.price_id)
    for name in ("input_per_million", "cached_input_per_million", "output_per_million"):
        named[name] = format(getattr(entry, name), "f")
    named["items"] = entry.items
    if isinstance(entry, UsageEvent):
        named["item_per_million"] = format(entry.item_per_million, "f")
    for name in ("input_amount", "cached_input_amount", "item_amount", "amount"):
        named[name] = format(getattr(entry, name), "f")
    named["currency"] = entry.currency
    if isinstance(entry, UsageEvent) and entry.tiers_from is not None:
        named["tiers_from"] = entry.tiers_from
    moment = entry.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return msgspec.json.encode(named | {"created_at": moment})


async def root_of(database: Database, organization_id: UUID, hour: datetime) -> tuple[int, bytes]:
    """How many entries an organization has in an hour, and their root, from the rows alone."""
    entries: list[UsageEvent | UsageAmendment] = []
    async with database.meter_transaction() as session:
        for kind in (UsageEvent, UsageAmendment):
            query = select(kind).where(
                kind.organization_id == organization_id,
                kind.created_at >= hour,
                kind.created_at < hour + timedelta(hours=1),
            )
            entries += list(await session.scalars(query))
    entries.sort(key=lambda each: (each.created_at, each.request_id, isinstance(each, UsageAmendment)))
    return len(entries), MerkleTree([leaf_hash(leaf_of(each)) for each in entries]).root
