"""Identifiers: UUIDv7 in the database, `prefix_hex` outside."""

import os
import time
from uuid import UUID

from farebox.core.errors import NotFound


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | random
    value &= ~(0xF << 76) & ~(0x3 << 62)
    return UUID(int=value | 0x7 << 76 | 0x2 << 62)


def external(prefix: str, value: UUID) -> str:
    """What clients see, `org_0192f3…`: the prefix names the kind, the rest is the UUID in hex."""
    return f"{prefix}_{value.hex}"


def internal(prefix: str, text: str) -> UUID:
    """The UUID behind what a client sent.

    Raises NotFound for anything that is no such id: a malformed id, one of another kind and one
    that belongs to nobody must look alike.
    """
    head, _, digits = text.partition("_")
    if head == prefix and len(digits) == 32 and digits.isascii() and digits.isalnum():
        try:
            return UUID(hex=digits)
        except ValueError:
            pass
    raise NotFound(f"No such {_NOUNS.get(prefix, 'object')}.", code="not_found")


_NOUNS = {
    "org": "organization",
    "proj": "project",
    "user": "user",
    "svc": "service account",
    "key": "API key",
    "req": "request",
    "invite": "invite",
    "inv": "invoice",
    "export": "export",
    "topup": "top-up",
}
