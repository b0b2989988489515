"""Links to parts that need no key: whoever has one may read one part, until it expires.

The signature is HMAC-SHA256 (RFC 2104) over the address with its expiry, under a key that is made from
`FAREBOX_SECRET_KEY` for this alone. All servers make the same.
"""

import hmac
from hashlib import sha256
from urllib.parse import urlencode
from uuid import UUID

from farebox.billing.exports.errors import LinkExpired
from farebox.billing.exports.schemas import Link
from farebox.core import base64url
from farebox.core.ids import external

LINK_SECONDS = 3600
PURPOSE = b"farebox export links v1"


def part_path(export_id: UUID, number: int) -> str:
    return f"/v1/organization/exports/{external('export', export_id)}/parts/{number}"


def signed_query(key: bytes, organization_id: UUID, export_id: UUID, number: int, expires: int) -> str:
    organization = external("org", organization_id)
    signature = _signature(key, part_path(export_id, number), organization, expires)
    return urlencode({"organization": organization, "expires": expires, "signature": signature})


def check_link(key: bytes, export_id: UUID, number: int, link: Link, now: float) -> None:
    """Raises LinkExpired."""
    expected = _signature(key, part_path(export_id, number), link.organization, link.expires)
    # Bytes: a text that is no ASCII is a wrong signature, too.
    if not hmac.compare_digest(expected.encode(), link.signature.encode()) or now >= link.expires:
        raise LinkExpired


def _signature(key: bytes, path: str, organization: str, expires: int) -> str:
    said = f"{path}?organization={organization}&expires={expires}".encode()
    return base64url.encode(hmac.digest(key, said, sha256))
