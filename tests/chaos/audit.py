"""Comparing what clients saw with what was billed, request by request, to the token and the cent."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from farebox.core.database import Database
from farebox.metering.models import UsageEvent
from tests.chaos.load import Call
from tests.metering.factories import Books, read_books

# How long a settlement may be under way, on a busy machine, when its server dies.
COMMIT_SECONDS = 1.0


@dataclass
class Findings:
    """What an audit saw that is no fault. Seconds are of delivered tokens that nobody pays for."""

    fates: Counter[str] = field(default_factory=Counter)
    events: int = 0
    tokens_delivered: int = 0
    tokens_unbilled: int = 0
    seconds_unbilled: list[float] = field(default_factory=list)
    settled_unsent: int = 0


async def audit(
    database: Database,
    funds: Mapping[UUID, Decimal],
    calls: Sequence[Call],
    kills: Sequence[float] = (),
) -> Findings:
    """Check every call against its event and every organization's books. Raises AssertionError."""
    findings = Findings(Counter(f"{c.fate}, {'stream' if c.streamed else 'whole'}" for c in calls))
    events = await read_and_check_books(database, funds)
    findings.events = len(events)
    owners = _attribute(calls, events)
    for call in calls:
        event = owners.pop(id(call), None)
        findings.tokens_delivered += call.tokens
        if call.fate == "whole":
            assert_billed_exactly(call, event)
        elif call.fate in ("refused", "unsent"):
            assert event is None, f"billed what was refused: {call}"
        elif call.fate == "left":
            assert event is None or event.output_tokens <= _worst_case(call)
        elif call.streamed:
            _check_interrupted_stream(call, event, kills, findings)
        elif event is not None:
            _check_settled_unsent(event, kills)
            findings.settled_unsent += 1
    return findings


async def read_and_check_books(database: Database, funds: Mapping[UUID, Decimal]) -> list[UsageEvent]:
    """Events = rollups = ledger = balance, nothing held, for each organization; all their events."""
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
        by_key: defaultdict[UUID, Decimal] = defaultdict(Decimal)
        for event in books.events:
            assert event.amount == _price_of(event)
            by_key[event.api_key_id] += event.amount
        for scope in books.scopes.values():
            assert scope.active == 0
            assert scope.reserved == 0
            assert scope.spent == (by_key[scope.id] if scope.kind == "key" else spent)
        found += books.events
    assert len({event.request_id for event in found}) == len(found), "a request was billed twice"
    return found


def add_amendments(books: Books) -> None:
    """To the events that they amend: what a request came to is both."""
    events = {event.request_id: event for event in books.events}
    for amendment in books.amendments:
        event = events[amendment.request_id]
        event.status = amendment.status
        event.input_tokens += amendment.input_tokens
        event.cached_input_tokens += amendment.cached_input_tokens
        event.output_tokens += amendment.output_tokens
        event.amount += amendment.amount


def event_of(call: Call, events: Iterable[UsageEvent]) -> UsageEvent:
    """The one event of a call. Raises ValueError unless there is just one."""
    (event,) = [event for event in events if event.request_id == call.request_id]
    return event


def assert_billed_exactly(call: Call, event: UsageEvent | None) -> None:
    """A response received whole has its event, with the tokens that the response itself told."""
    assert event is not None, f"an answer for nothing: {call.request_id}"
    assert call.usage is not None
    assert call.tokens == call.usage.completion_tokens, "the response does not say what it holds"
    billed = (event.input_tokens, event.cached_input_tokens, event.output_tokens)
    assert (event.status, billed) == ("completed", call.usage.classes)


def _attribute(calls: Iterable[Call], events: Sequence[UsageEvent]) -> dict[int, UsageEvent]:
    """To each call its event: by request id where the client learned it, else by key and time."""
    by_id = {call.request_id: call for call in calls if call.request_id is not None}
    anonymous: dict[UUID, list[Call]] = defaultdict(list)
    for call in calls:
        if call.request_id is None:
            anonymous[call.key_id].append(call)
    owners: dict[int, UsageEvent] = {}
    for event in events:
        owner = by_id.get(event.request_id) or _in_flight(anonymous[event.api_key_id], event)
        assert owner is not None, f"billed without a request: {event.request_id}"
        assert id(owner) not in owners, f"billed twice: {event.request_id}"
        owners[id(owner)] = event
    return owners


def _in_flight(calls: Iterable[Call], event: UsageEvent) -> Call | None:
    admitted = event.admitted_at.timestamp()
    return next((call for call in calls if call.sent_at <= admitted <= call.ended_at), None)


def _check_interrupted_stream(
    call: Call, event: UsageEvent | None, kills: Sequence[float], findings: Findings
) -> None:
    """Billed no more than the client counted, and less only by what came after the last checkpoint."""
    billed = -1
    if event is not None:
        assert call.arrivals, f"billed, and not a byte came: {event.request_id}"
        assert event.output_tokens <= call.tokens, f"over-billed: {event.request_id}"
        billed = event.output_tokens
    findings.tokens_unbilled += call.tokens - max(billed, 0)
    died = next((kill for kill in kills if call.sent_at <= kill <= call.ended_at), None)
    first = next((moment for moment, tokens in call.arrivals if tokens > billed), None)
    if died is not None and first is not None and first < died:
        findings.seconds_unbilled.append(died - first)


def _check_settled_unsent(event: UsageEvent, kills: Sequence[float]) -> None:
    """Of a whole answer no byte is sent before its charge is durable; a kill can fall in between."""
    settled = event.created_at.timestamp()
    assert event.status == "completed"
    assert any(abs(settled - kill) < COMMIT_SECONDS for kill in kills), f"billed unsent: {event.request_id}"


def _worst_case(call: Call) -> int:
    return int(call.body["max_tokens"]) * int(call.body.get("n", 1))


def _price_of(event: UsageEvent) -> Decimal:
    return (
        event.input_tokens * event.input_per_million
        + event.cached_input_tokens * event.cached_input_per_million
        + event.output_tokens * event.output_per_million
    ) / 1_000_000
