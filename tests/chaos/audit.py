"""Comparing what clients saw with what was billed, request by request, to the token and the cent."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from farebox.core.database import Database
from farebox.metering.models import UsageEvent
from tests.chaos.books import is_nothing, read_and_check_books, tokens_of
from tests.chaos.load import Call
from tests.chaos.processes import Server

# What the product promises.
REFUSAL_SECONDS = 5.0
# Deliveries are recorded once a second; the rest is for a machine that is busy with everything at once.
UNBILLED_SECONDS = 1.5


@dataclass
class Findings:
    """What an audit saw. The lists of the first group must be empty: they say what is wrong.

    Seconds are of delivered tokens that nobody pays for: from their delivery to the kill of their server.
    """

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    over_billed: list[str] = field(default_factory=list)
    ill_refused: list[str] = field(default_factory=list)

    fates: Counter[str] = field(default_factory=Counter)
    events: int = 0
    credited: int = 0
    tokens_delivered: int = 0
    tokens_unbilled: int = 0
    seconds_unbilled: list[float] = field(default_factory=list)
    slowest_refusal: float = 0.0

    def assert_none(self) -> None:
        """Raises AssertionError, with all that is wrong."""
        wrong = {
            "lost": self.lost,
            "doubled": self.doubled,
            "over-billed": self.over_billed,
            "ill refused": self.ill_refused,
        }
        assert not any(wrong.values()), "\n".join(
            f"{k}: {each}" for k, found in wrong.items() for each in found
        )
        assert max(self.seconds_unbilled, default=0.0) < UNBILLED_SECONDS


async def audit(
    database: Database,
    funds: Mapping[UUID, Decimal],
    calls: Sequence[Call],
    servers: Sequence[Server] = (),
) -> Findings:
    """Check every call against its event and every organization's books. Raises AssertionError.

    `servers` are those of which some died, or fell silent.
    """
    findings = await examine(database, funds, calls, servers)
    findings.assert_none()
    return findings


async def examine(
    database: Database, funds: Mapping[UUID, Decimal], calls: Sequence[Call], servers: Sequence[Server]
) -> Findings:
    """As `audit`, but says what is wrong with calls in its findings. Raises AssertionError for books."""
    events = await read_and_check_books(database, funds)
    findings = Findings(
        fates=Counter(f"{call.fate}, {'stream' if call.streamed else 'whole'}" for call in calls),
        events=len(events),
        credited=sum(event.status == "undelivered" for event in events),
        tokens_delivered=sum(call.tokens for call in calls),
    )
    examiner = Examiner(findings, servers)
    owners = examiner.attribute(calls, events)
    for call in calls:
        examiner.look_at(call, owners.get(id(call)))
    return findings


class Examiner:
    """Holds each call against its event."""

    def __init__(self, findings: Findings, servers: Iterable[Server]) -> None:
        self._findings = findings
        self._servers = {server.url: server for server in servers}

    def attribute(self, calls: Iterable[Call], events: Sequence[UsageEvent]) -> dict[int, UsageEvent]:
        """To each call its event: by request id where the client learned it, else by key and time."""
        by_id = {call.request_id: call for call in calls if call.request_id is not None}
        anonymous: dict[UUID, list[Call]] = defaultdict(list)
        for call in calls:
            if call.request_id is None:
                anonymous[call.key_id].append(call)
        owners: dict[int, UsageEvent] = {}
        for event in events:
            owner = by_id.get(event.request_id) or _in_flight(anonymous[event.api_key_id], event)
            if owner is None or id(owner) in owners:
                if not is_nothing(event):
                    self._findings.doubled.append(f"{told(event)}; {owner or 'no request'}")
            else:
                owners[id(owner)] = event
        return owners

    def look_at(self, call: Call, event: UsageEvent | None) -> None:
        """Note what is wrong with one call, and what of it nobody pays for."""
        billed = (0, 0, 0) if event is None else tokens_of(event)
        if call.fate in ("refused", "unsent"):
            self._see_refusal(call, event)
        elif call.fate == "whole":
            self._see_whole(call, event)
        elif call.streamed:
            # Who hangs up may have left unread what his socket had taken: it was delivered.
            most = worst_case(call) if call.fate == "left" else call.tokens
            if billed[2] > most or (any(billed) and not most):
                self._over_billed(call, event)
            self._see_missing(call, call.tokens - billed[2], _first_after(call, billed[2]))
        else:
            self._see_body_cut_short(call, event, billed[2])

    def _see_refusal(self, call: Call, event: UsageEvent | None) -> None:
        if event is not None and not is_nothing(event):
            self._over_billed(call, event)
        if call.fate == "refused":
            seconds = call.seconds - self._paused_during(call)
            self._findings.slowest_refusal = max(self._findings.slowest_refusal, seconds)
            if (call.status or 0) >= 500 and (not is_told_to_come_back(call) or seconds > REFUSAL_SECONDS):
                self._findings.ill_refused.append(f"after {seconds:.1f} s: {call}")

    def _paused_during(self, call: Call) -> float:
        """For how many seconds of a call its server was stopped: it cannot say no then."""
        pauses = self._servers[call.server].pauses if call.server in self._servers else ()
        return sum(max(0.0, min(end, call.ended_at) - max(begin, call.sent_at)) for begin, end in pauses)

    def _see_whole(self, call: Call, event: UsageEvent | None) -> None:
        """A response received whole has its event, with the tokens that the response itself told."""
        if event is None or is_nothing(event):
            # It was credited, or its settlement died with its server before it was known to have left.
            self._see_missing(call, call.tokens, call.arrivals[0][0] if event is None else _moment(event))
        elif not is_billed_exactly(call, event):
            assert call.usage is not None
            over = any(b > u for b, u in zip(tokens_of(event), call.usage.classes, strict=True))
            (self._findings.over_billed if over else self._findings.lost).append(f"{told(event)}; {call}")

    def _see_body_cut_short(self, call: Call, event: UsageEvent | None, billed: int) -> None:
        """A whole answer of which its client did not get, or did not want, all. One that nobody began to send
        comes to nothing; one that has left its server is billed."""
        left = call.fate == "left"
        if billed not in (0, worst_case(call) if left else 0):
            self._over_billed(call, event)
        if left and call.body_bytes and not billed:
            self._see_missing(call, worst_case(call), call.ended_at)

    def _see_missing(self, call: Call, tokens: int, since: float) -> None:
        """So many tokens were delivered from `since` on, and are not billed: excused by a kill soon after."""
        if tokens <= 0:
            return
        silences = self._servers[call.server].silences if call.server in self._servers else ()
        during = [moment for moment in silences if call.sent_at <= moment <= call.ended_at]
        fell = next(iter(during), None) or next((moment for moment in silences if moment >= since), None)
        if fell is None or fell - since > UNBILLED_SECONDS:
            self._findings.lost.append(
                f"{tokens} tokens, delivered at {since}, server silent at {fell}; {call}"
            )
            return
        self._findings.tokens_unbilled += tokens
        if fell > since:
            self._findings.seconds_unbilled.append(fell - since)

    def _over_billed(self, call: Call, event: UsageEvent | None) -> None:
        self._findings.over_billed.append(f"{told(event)}; {call}")


def event_of(call: Call, events: Iterable[UsageEvent]) -> UsageEvent:
    """The one event of a call. Raises ValueError unless there is just one."""
    (event,) = [event for event in events if event.request_id == call.request_id]
    return event


def assert_billed_exactly(call: Call, event: UsageEvent | None) -> None:
    """A response received whole has its event, with the tokens that the response itself told."""
    assert event is not None
    assert is_billed_exactly(call, event), f"{told(event)}; {call}"


def is_billed_exactly(call: Call, event: UsageEvent) -> bool:
    assert call.usage is not None
    assert call.tokens == call.usage.completion_tokens, "the response does not say what it holds"
    return (event.status, tokens_of(event)) == ("completed", call.usage.classes)


def is_told_to_come_back(call: Call) -> bool:
    return call.status == 503 and int(call.headers["retry-after"]) > 0


def worst_case(call: Call) -> int:
    """Output tokens of an answer that nobody cut short."""
    return int(call.body["max_tokens"]) * int(call.body.get("n", 1))


def told(event: UsageEvent | None) -> str:
    """An event, for people."""
    if event is None:
        return "no event"
    times = f"admitted {event.admitted_at.timestamp():.3f}, settled {_moment(event):.3f}"
    return f"event {event.request_id} {event.status} {tokens_of(event)} {times}"


def _in_flight(calls: Iterable[Call], event: UsageEvent) -> Call | None:
    admitted = event.admitted_at.timestamp()
    return next((call for call in calls if call.sent_at <= admitted <= call.ended_at), None)


def _first_after(call: Call, tokens: int) -> float:
    """When the first token beyond so many arrived."""
    return next((moment for moment, count in call.arrivals if count > tokens), call.ended_at)


def _moment(event: UsageEvent) -> float:
    return event.created_at.timestamp()
