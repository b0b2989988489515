"""Proofs that entries are in sealed hours, for the organization whose they are. See `verification.py`."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import ColumnElement, func, literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core import base64url
from farebox.core.clock import iso
from farebox.core.errors import Conflict, FareboxError, NotFound
from farebox.core.merkle import MerkleStream, climb, leaf_hash
from farebox.metering.models import UsageAmendment, UsageEvent, UsageOrganizationSeal, UsageSeal
from farebox.metering.seals.chain import HOUR, OrganizationRoot, organization_leaf
from farebox.metering.seals.roots import LEAVES
from farebox.metering.seals.sealing import hour_of

_LEAVES = text(
    LEAVES.format(columns="request_id, kind, leaf", start=":start", end=":end", organization=":organization")
)
# How many seals a chain leads over at most, unless an amendment came later: those of a month.
MAX_CHAIN = 744
_SLICE = 1_000

Entry = UsageEvent | UsageAmendment

log = structlog.get_logger(__name__)


class NotSealed(Conflict):
    """Its hour is not over, or not sealed yet."""

    code = "not_sealed"

    def __init__(self) -> None:
        super().__init__(
            "This request's hour is not sealed yet; ask again ten minutes after the hour.", code=self.code
        )


class NotAsSealed(FareboxError):
    """The books are no more what was sealed: nothing is signed that is read from them."""

    code = "not_as_sealed"

    def __init__(self) -> None:
        super().__init__(
            "The books of this request's hour are not what was sealed. Please tell the operator.",
            code=self.code,
        )


class BookedTwice(FareboxError):
    """A request has two events: what it came to cannot be said."""

    code = "booked_twice"

    def __init__(self) -> None:
        super().__init__(
            "This request is in the books more than once. Please tell the operator.", code=self.code
        )


class OrganizationProof(msgspec.Struct, frozen=True):
    """An organization's part in an hour: the text of its leaf, and the leaf's path to the hour's root."""

    organization: str
    organization_path: str


class EntryProof(OrganizationProof, frozen=True):
    """An event or an amendment: the text of its leaf, and the leaf's path to the organization's root."""

    leaf: str
    path: str


class ChainedHour(msgspec.Struct, frozen=True):
    """An hour and its root, in hex."""

    hour: str
    root: str


class Chain(msgspec.Struct, frozen=True):
    """Hours that follow each other. `previous` is the seal before the first of them, in hex."""

    previous: str
    hours: list[ChainedHour]


class SealStatement(msgspec.Struct, frozen=True):
    """What is signed: the seal of an hour, in hex."""

    hour: str
    seal: str


class SealedEntries(msgspec.Struct, frozen=True):
    """A request's event and what amended it, the proof of each, and the chain from the first one's hour on.

    `newest` is the seal at the chain's end.
    """

    event: UsageEvent
    amendment: UsageAmendment | None
    proofs: list[EntryProof]
    chain: Chain
    newest: SealStatement


class SealedPeriod(msgspec.Struct, frozen=True):
    """All hours of a period as far as they are sealed, and the organization's part in those that it used."""

    organizations: list[OrganizationProof]
    chain: Chain
    newest: SealStatement | None


async def sealed_entries(session: AsyncSession, organization_id: UUID, request_id: UUID) -> SealedEntries:
    """The proof for one request. Raises NotFound, for foreign requests as for absent ones; NotSealed,
    NotAsSealed and BookedTwice.

    `session` sees the organization alone.
    """
    event, amendment = await find_entries(session, organization_id, request_id)
    entries: list[Entry] = [event] if amendment is None else [event, amendment]
    proofs = [await _prove(session, each) for each in entries]
    first, last = hour_of(event.created_at), hour_of(entries[-1].created_at)
    chain, newest = await _chain(session, first, max(first + MAX_CHAIN * HOUR, last + HOUR))
    assert newest is not None  # noqa: S101  its own hour is sealed
    return SealedEntries(event, amendment, proofs, chain, newest)


async def find_entries(
    session: AsyncSession, organization_id: UUID, request_id: UUID
) -> tuple[UsageEvent, UsageAmendment | None]:
    """What was booked of a request. Raises NotFound, for foreign requests as for absent ones; BookedTwice."""
    query = select(UsageEvent).where(
        UsageEvent.request_id == request_id, UsageEvent.organization_id == organization_id
    )
    events = (await session.scalars(query.limit(2))).all()
    if not events:
        raise NotFound("No such request.", code="not_found")
    if len(events) > 1:
        log.error("seals.booked_twice", organization_id=str(organization_id), request_id=str(request_id))
        raise BookedTwice
    return events[0], await session.scalar(
        select(UsageAmendment).where(
            UsageAmendment.request_id == request_id, UsageAmendment.organization_id == organization_id
        )
    )


async def require_sealed(session: AsyncSession, entries: Sequence[Entry]) -> None:
    """That entries are in the books as they were sealed. Raises NotSealed and NotAsSealed."""
    for each in entries:
        await _prove(session, each)


async def sealed_period(
    session: AsyncSession, organization_id: UUID, start: datetime, end: datetime
) -> SealedPeriod:
    """The sealed roots of [start, end), for one organization: what an invoice's usage was counted from.

    Both are whole hours. The chain is shorter than the period while its last hours are not sealed.
    """
    query = (
        select(UsageOrganizationSeal)
        .where(
            UsageOrganizationSeal.organization_id == organization_id,
            UsageOrganizationSeal.hour >= start,
            UsageOrganizationSeal.hour < end,
        )
        .order_by(UsageOrganizationSeal.hour)
    )
    seals = [_organization_proof(each) for each in await session.scalars(query)]
    chain, newest = await _chain(session, start, end)
    return SealedPeriod(seals, chain, newest)


async def _chain(session: AsyncSession, start: datetime, end: datetime) -> tuple[Chain, SealStatement | None]:
    query = select(UsageSeal).where(UsageSeal.hour >= start, UsageSeal.hour < end).order_by(UsageSeal.hour)
    seals = list(await session.scalars(query))
    if not seals:
        return Chain("", []), None
    hours = [ChainedHour(iso(each.hour), each.root.hex()) for each in seals]
    return Chain(seals[0].previous.hex(), hours), SealStatement(iso(seals[-1].hour), seals[-1].seal.hex())


async def _prove(session: AsyncSession, entry: Entry) -> EntryProof:
    seal = await _organization_seal(session, entry)
    leaf, path = await _text_of(session, entry), await _path_of(session, entry)
    # The path comes from all the hour's entries: whichever was changed, it leads elsewhere.
    if climb(leaf_hash(leaf.encode()), path) != seal.root:
        _tell_changed(entry)
        raise NotAsSealed
    own = _organization_proof(seal)
    return EntryProof(own.organization, own.organization_path, leaf, base64url.encode(path))


def _tell_changed(entry: Entry) -> None:
    log.error(
        "seals.books_changed",
        organization_id=str(entry.organization_id),
        hour=hour_of(entry.created_at).isoformat(),
        request_id=str(entry.request_id),
    )


async def _organization_seal(session: AsyncSession, entry: Entry) -> UsageOrganizationSeal:
    seal = await session.get(UsageOrganizationSeal, (entry.organization_id, hour_of(entry.created_at)))
    if seal is None:
        raise NotSealed
    return seal


def _organization_proof(seal: UsageOrganizationSeal) -> OrganizationProof:
    root = OrganizationRoot(seal.organization_id, seal.entries, seal.root)
    return OrganizationProof(organization_leaf(seal.hour, root).decode(), base64url.encode(seal.path))


async def _text_of(session: AsyncSession, entry: Entry) -> str:
    kind = type(entry)
    name = "event" if kind is UsageEvent else "amendment"
    leaf: ColumnElement[str] = getattr(func, f"farebox_{name}_leaf")(literal_column(kind.__tablename__))
    query = select(leaf).select_from(kind).where(kind.request_id == entry.request_id)
    return str(await session.scalar(query))


async def _path_of(session: AsyncSession, entry: Entry) -> bytes:
    """From the entry's leaf to the organization's root; the hour is streamed."""
    start, kind, tree = hour_of(entry.created_at), int(isinstance(entry, UsageAmendment)), MerkleStream()
    values = {"start": start, "end": start + HOUR, "organization": entry.organization_id}
    async for rows in (await session.stream(_LEAVES, values)).partitions(_SLICE):
        for request_id, which, leaf in rows:
            tree.add(leaf, follow=request_id == entry.request_id and which == kind)
    tree.finish()
    return tree.path
