"""Whether keys still open anything, asked for many at once, of all tenants."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from farebox.keys.tokens import KeyClaims

# A row for each key that opens anything. To be run as `farebox_meter`.
READ_STANDINGS = """
SELECT k.id, k.scopes, k.models
FROM unnest($1::uuid[], $2::bytea[]) AS n (key_id, digest)
JOIN api_key k ON k.id = n.key_id AND k.token_sha256 = n.digest
JOIN project p ON p.id = k.project_id
JOIN organization o ON o.id = k.organization_id
WHERE k.revoked_at IS NULL AND k.expires_at > now() AND p.archived_at IS NULL AND o.status = 'active'
"""


class Standing(msgspec.Struct, frozen=True):
    """What a living key may do; `models` is its allow-list, None for all."""

    scopes: frozenset[str]
    models: frozenset[str] | None

    def may_call(self, model_id: str) -> bool:
        return self.models is None or model_id in self.models


def standing_arguments(keys: Sequence[KeyClaims]) -> tuple[list[UUID], list[bytes]]:
    """The arguments of READ_STANDINGS."""
    return [key.key_id for key in keys], [key.digest for key in keys]


def read_standings(keys: Sequence[KeyClaims], rows: Iterable[Mapping[str, Any]]) -> list[Standing | None]:
    """What READ_STANDINGS found for each of the keys, None for one that opens nothing."""
    found = {
        row["id"]: Standing(
            frozenset(row["scopes"]), None if row["models"] is None else frozenset(row["models"])
        )
        for row in rows
    }
    return [found.get(key.key_id) for key in keys]
