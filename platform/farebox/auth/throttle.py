"""Back-off against guessing and mail bombing, counted in Postgres so that all replicas agree.

Each attempt is counted before it is judged, in the statement that asks whether it may be made: of
any number of simultaneous guesses, only the allowed ones are looked at. A right password takes its
count back.
"""

import hashlib
import ipaddress
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, text
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.auth.errors import TooManyAttempts
from farebox.auth.models import SignInThrottle
from farebox.core.database import MOMENT, time_told


@dataclass(frozen=True, slots=True)
class Backoff:
    """`free` attempts at once, then a pause that doubles from 1 s to `longest_pause` s.

    One attempt is forgotten for every `forget_after` s without any.
    """

    kind: str
    free: int
    longest_pause: int
    forget_after: int

    def subject(self, value: str) -> bytes:
        return hashlib.sha256(f"{self.kind}:{value}".encode()).digest()


# An account can be locked by anyone who knows its address, so its longest pause stays short, and its
# owner has two ways around it: a browser they used before (`devices`), and a reset by e-mail, which
# makes one. One guess per five minutes in the long run is hopeless against 12 characters.
ACCOUNT = Backoff("account", free=5, longest_pause=300, forget_after=300)
DEVICE = Backoff("device", free=5, longest_pause=300, forget_after=300)
LINK = Backoff("link", free=5, longest_pause=300, forget_after=300)
# Many people share an address behind a company's gateway.
ADDRESS = Backoff("address", free=30, longest_pause=300, forget_after=60)
REQUESTS = Backoff("requests", free=30, longest_pause=300, forget_after=60)
# Who holds a site has as many networks as they like. So has a provider, but all its customers are put off
# with it: its pauses stay short.
SITE = Backoff("site", free=150, longest_pause=300, forget_after=12)
SITE_REQUESTS = Backoff("site requests", free=150, longest_pause=300, forget_after=12)
PROVIDER = Backoff("provider", free=1000, longest_pause=10, forget_after=1)
PROVIDER_REQUESTS = Backoff("provider requests", free=1000, longest_pause=10, forget_after=1)
MAILS = Backoff("mails", free=3, longest_pause=900, forget_after=600)

# `clock_timestamp` and not `now`: a statement that waited for the row must compare with the time
# at which it got it, not with the start of its transaction. `now` is for whoever has a clock of their own.
_NOW = bindparam("now", type_=MOMENT)

_COUNT = text("""
INSERT INTO sign_in_throttle AS t (subject, failures, blocked_until, updated_at)
VALUES (:subject, 1, coalesce(:now, clock_timestamp()), coalesce(:now, clock_timestamp()))
ON CONFLICT (subject) DO UPDATE SET (failures, blocked_until, updated_at) = (
    SELECT n, coalesce(:now, clock_timestamp()) + make_interval(secs => CASE
        WHEN n <= :free THEN 0
        ELSE least(:longest_pause, power(2, least(n - :free - 1, 20)))
    END), coalesce(:now, clock_timestamp())
    FROM (SELECT 1 + greatest(0, t.failures - floor(
        extract(epoch FROM coalesce(:now, clock_timestamp()) - t.updated_at) / :forget_after
    ))::integer AS n) AS counted
)
WHERE t.blocked_until <= coalesce(:now, clock_timestamp())
RETURNING failures
""").bindparams(_NOW)

_REMAINING = text("""
SELECT ceil(extract(epoch FROM blocked_until - coalesce(:now, clock_timestamp())))::integer
FROM sign_in_throttle WHERE subject = :subject
""").bindparams(_NOW)

_UNCOUNT = text("""
UPDATE sign_in_throttle
SET failures = greatest(0, failures - 1), blocked_until = coalesce(:now, clock_timestamp())
WHERE subject = :subject
""").bindparams(_NOW)


async def count_attempt(session: AsyncSession, backoff: Backoff, value: str) -> None:
    """Count an attempt; raise TooManyAttempts when it comes too soon (roll back then).

    Callers that count two things take the account before the address, so that none waits in a ring.
    """
    subject = backoff.subject(value)
    limits = {
        "subject": subject,
        "free": backoff.free,
        "longest_pause": backoff.longest_pause,
        "forget_after": backoff.forget_after,
        "now": time_told(session),
    }
    if (await session.execute(_COUNT, limits)).first() is None:
        seconds = await session.scalar(_REMAINING, {"subject": subject, "now": time_told(session)})
        raise TooManyAttempts(max(1, seconds or 1))


async def count_sign_in(session: AsyncSession, address: str | None) -> None:
    """Count an attempt to sign in from an address, its site and its provider. Raises TooManyAttempts."""
    await _count_all(session, (ADDRESS, SITE, PROVIDER), address)


async def count_request(session: AsyncSession, address: str | None) -> None:
    """Count a request for a mail in the same way."""
    await _count_all(session, (REQUESTS, SITE_REQUESTS, PROVIDER_REQUESTS), address)


async def uncount_sign_in(session: AsyncSession, address: str | None) -> None:
    """Uncount an attempt to sign in that turned out right."""
    for backoff, network in zip((ADDRESS, SITE, PROVIDER), _from_narrow_to_wide(address), strict=True):
        await uncount_attempt(session, backoff, network)


async def _count_all(
    session: AsyncSession, backoffs: tuple[Backoff, Backoff, Backoff], address: str | None
) -> None:
    for backoff, network in zip(backoffs, _from_narrow_to_wide(address), strict=True):
        await count_attempt(session, backoff, network)


async def uncount_attempt(session: AsyncSession, backoff: Backoff, value: str) -> None:
    """Uncount one attempt that turned out right, and only that one.

    Clearing an address instead would let an attacker reset it by signing in to an account of their own.
    """
    await session.execute(_UNCOUNT, {"subject": backoff.subject(value), "now": time_told(session)})


async def clear(session: AsyncSession, backoff: Backoff, value: str) -> None:
    """Forget every attempt."""
    await session.execute(delete(SignInThrottle).where(SignInThrottle.subject == backoff.subject(value)))


def networks_of(address: str | None) -> tuple[str, str, str]:
    """Whose an address is, from wide to narrow: a provider's, a site's, and what it counts as itself.

    Of IPv6 the /32 that a provider is given, the /48 that a site may have (RFC 6177), and the /64 of which
    everybody has one. Of IPv4 the /16, the /24 and the address.
    """
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown", "unknown", "unknown"
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    if isinstance(parsed, ipaddress.IPv6Address):
        return _network(parsed, 32), _network(parsed, 48), _network(parsed, 64)
    return _network(parsed, 16), _network(parsed, 24), str(parsed)


def network_of(address: str | None) -> str:
    """What an address counts as: itself, or its /64 for IPv6."""
    return networks_of(address)[-1]


def _from_narrow_to_wide(address: str | None) -> tuple[str, ...]:
    # In this order they are counted, so that none waits in a ring, and the most shared is locked last.
    return networks_of(address)[::-1]


def _network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int) -> str:
    """`length` in bits."""
    return str(ipaddress.ip_network((address, length), strict=False))
