"""What is hashed in a seal, from an entry up to the chain. All of it is pure.

- An organization's root of an hour is that of the Merkle tree (RFC 6962) over its usage events and
  amendments, by `created_at`, request id, and events before amendments. The leaves are texts:
  `sql/event_leaf.sql`.
- The hour's root is that of the tree over the organizations, by their ids: `organization_leaf`.
- The seal is the hash of the seal before, the hour and its root.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

import msgspec

from farebox.core.clock import iso
from farebox.core.ids import external
from farebox.core.merkle import EMPTY, MerkleTree, leaf_hash

HOUR = timedelta(hours=1)
# Before the first seal.
GENESIS = bytes(32)


class OrganizationRoot(msgspec.Struct, frozen=True):
    """An organization's part in an hour."""

    organization_id: UUID
    entries: int
    root: bytes


class HourRoots(msgspec.Struct, frozen=True):
    """A closed hour: its organizations by id, each with its path to the hour's root."""

    hour: datetime
    organizations: Sequence[OrganizationRoot]
    paths: Sequence[bytes]
    root: bytes

    @property
    def entries(self) -> int:
        return sum(each.entries for each in self.organizations)


class OrganizationLeaf(msgspec.Struct, frozen=True):
    """The leaf of an organization in the tree of an hour, by where the hour begins; `root` is in hex."""

    organization_id: str
    hour: str
    entries: int
    root: str


def organization_leaf(hour: datetime, organization: OrganizationRoot) -> bytes:
    return msgspec.json.encode(
        OrganizationLeaf(
            external("org", organization.organization_id),
            iso(hour),
            organization.entries,
            organization.root.hex(),
        )
    )


def close_hour(hour: datetime, organizations: Sequence[OrganizationRoot]) -> HourRoots:
    """The tree over the organizations, which come in the order of their ids."""
    if not organizations:
        return HourRoots(hour, (), (), EMPTY)
    tree = MerkleTree([leaf_hash(organization_leaf(hour, each)) for each in organizations])
    paths = [tree.path(index) for index in range(len(organizations))]
    return HourRoots(hour, organizations, paths, tree.root)


def seal_of(previous: bytes, hour: datetime, root: bytes) -> bytes:
    """SHA-256 over the seal before (32 bytes), the hour (Unix seconds, 8 bytes, big-endian) and its root."""
    return sha256(previous + int(hour.timestamp()).to_bytes(8, "big") + root).digest()
