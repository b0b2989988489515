"""What Stripe told us, by the event's id and with its state. Sessions come from `Database.meter_transaction`.

A notice is answered when it is stored, with the job of working it off in the same transaction. That it was
told once does not mean that it was worked off: the state says so.
"""

from collections.abc import Sequence

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.models_stripe import StripeEvent
from farebox.billing.stripe.events.notices import Notice
from farebox.core.database import present
from farebox.core.errors import NotFound
from farebox.core.outbox import post

EVENT = "stripe.event"
KEPT_DAYS = 90

log = structlog.get_logger(__name__)


async def store(session: AsyncSession, notice: Notice, ignored: str | None = None) -> bool:
    """Keep a notice, once; False when it is there. `ignored` says why nothing is done about it.

    Of the notices of one object, one is worked off at a time.
    """
    state = "pending" if ignored is None else "ignored"
    values = {"id": notice.id, "type": notice.type, "object_id": notice.object_id, "state": state}
    added = await session.scalar(
        insert(StripeEvent)
        .values(note=ignored, **values)
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(StripeEvent.id)
    )
    if added is not None and ignored is None:
        await post(session, EVENT, {"event": notice.id}, serial_key=notice.object_id or notice.id)
    log.info("stripe.told", event_id=notice.id, type=notice.type, new=added is not None, ignored=ignored)
    return added is not None


async def settle(session: AsyncSession, event_id: str, state: str, note: str | None) -> None:
    """What came of it: `done`, `ignored` or `dead`."""
    values = {"state": state, "note": note, "settled_at": await present(session)}
    await session.execute(update(StripeEvent).where(StripeEvent.id == event_id).values(**values))


async def note_failure(session: AsyncSession, event_id: str, reason: str) -> int:
    """How often it was tried by now."""
    tried = await session.scalar(
        update(StripeEvent)
        .where(StripeEvent.id == event_id)
        .values(attempts=StripeEvent.attempts + 1, note=reason)
        .returning(StripeEvent.attempts)
    )
    return tried or 0


async def list_events(session: AsyncSession, states: Sequence[str], limit: int) -> Sequence[StripeEvent]:
    """Newest first."""
    query = select(StripeEvent).where(StripeEvent.state.in_(states))
    return (await session.scalars(query.order_by(StripeEvent.received_at.desc()).limit(limit))).all()


async def revive(session: AsyncSession, event_id: str | None = None) -> int:
    """Work off once more what is dead, or one event whatever its state; how many that were.

    Raises NotFound for an event that is not here.
    """
    which = StripeEvent.state == "dead" if event_id is None else StripeEvent.id == event_id
    changed = (
        update(StripeEvent)
        .where(which)
        .values(state="pending", attempts=0, note=None, settled_at=None)
        .returning(StripeEvent.id, StripeEvent.object_id)
    )
    rows = (await session.execute(changed)).all()
    if event_id is not None and not rows:
        raise NotFound(f"No event {event_id} was told here.")
    for row in rows:
        await post(session, EVENT, {"event": row.id}, serial_key=row.object_id or row.id)
    return len(rows)


async def forget(session: AsyncSession) -> None:
    """Events that are long done: Stripe repeats none for more than three days."""
    past = await present(session) - func.make_interval(0, 0, 0, KEPT_DAYS)
    old = (StripeEvent.received_at < past) & StripeEvent.state.in_(("done", "ignored"))
    await session.execute(delete(StripeEvent).where(old).execution_options(synchronize_session=False))
