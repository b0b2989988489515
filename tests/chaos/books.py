"""What Postgres holds on each organization, and that all of its numbers close."""

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from uuid import UUID

from farebox.core.database import Database
from farebox.metering.models import UsageEvent
from tests.metering.factories import Books, read_books


async def read_and_check_books(database: Database, funds: Mapping[UUID, Decimal]) -> list[UsageEvent]:
    """Events = rollups = ledger = balance, nothing held, for each organization; all their events.

    Each event as it came to in the end: amended, or taken back. Raises AssertionError.
    """
    found: list[UsageEvent] = []
    for organization_id, funded in funds.items():
        books = await read_books(database, organization_id)
        assert not books.holds
        add_amendments(books)
        spent = sum((event.amount for event in books.events), Decimal(0))
        assert (books.rollup_requests, books.rollup_amount) == (len(books.events), spent)
        assert books.rollup_tokens == (
            sum(e.input_tokens for e in books.events),
            sum(e.cached_input_tokens for e in books.events),
            sum(e.output_tokens for e in books.events),
        )
        assert books.scopes[organization_id].balance == books.ledger_balance == funded - spent >= 0
        _check_scopes(books, spent)
        found += books.events
    assert len({event.request_id for event in found}) == len(found), "a request was billed twice"
    return found


def _check_scopes(books: Books, spent: Decimal) -> None:
    by_key: defaultdict[UUID, Decimal] = defaultdict(Decimal)
    for event in books.events:
        assert event.amount == _price_of(event)
        by_key[event.api_key_id] += event.amount
    for scope in books.scopes.values():
        assert scope.active == 0
        assert scope.reserved == 0
        assert scope.spent == (by_key[scope.id] if scope.kind == "key" else spent)


def add_amendments(books: Books) -> None:
    """To the events that they amend: what a request came to is both. A credit takes back all of it."""
    events = {event.request_id: event for event in books.events}
    for amendment in books.amendments:
        event = events[amendment.request_id]
        amended = "completed" if amendment.status == "undelivered" else "interrupted"
        assert event.status == amended
        event.status = amendment.status
        event.input_tokens += amendment.input_tokens
        event.cached_input_tokens += amendment.cached_input_tokens
        event.output_tokens += amendment.output_tokens
        event.amount += amendment.amount
        assert event.status != "undelivered" or is_nothing(event)


def is_nothing(event: UsageEvent) -> bool:
    """Whether a request came to no token and no cent."""
    return not any((*tokens_of(event), event.amount))


def tokens_of(event: UsageEvent) -> tuple[int, int, int]:
    """Input, cached input, output."""
    return event.input_tokens, event.cached_input_tokens, event.output_tokens


def _price_of(event: UsageEvent) -> Decimal:
    return (
        event.input_tokens * event.input_per_million
        + event.cached_input_tokens * event.cached_input_per_million
        + event.output_tokens * event.output_per_million
    ) / 1_000_000
