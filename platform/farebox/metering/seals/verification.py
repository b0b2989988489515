"""Checking a proof with nothing but the published keys: that a request's entries are in sealed hours."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from farebox.core import base64url
from farebox.core.clock import iso
from farebox.core.merkle import climb, leaf_hash
from farebox.keys.jws import read_statement
from farebox.keys.receipt_keys import SEAL_TYPE
from farebox.metering.receipts.statement import Statement
from farebox.metering.seals.chain import HOUR, OrganizationLeaf, seal_of
from farebox.metering.seals.proofs import Chain, EntryProof, SealStatement


class InvalidProof(ValueError):
    """The proof does not lead to what was signed."""


class ProofDocument(Protocol):
    """What `GET /v1/organization/proofs/{request_id}` answers; `seal` is a JWS."""

    @property
    def entries(self) -> Sequence[EntryProof]: ...

    @property
    def chain(self) -> Chain: ...

    @property
    def seal(self) -> str: ...


Leaf = dict[str, Any]


def verify_proof(proof: ProofDocument, keys: Mapping[str, Ed25519PublicKey]) -> list[Leaf]:
    """The entries that the proof shows to be in sealed hours: an event, and what amended it.

    Raises InvalidProof, or InvalidSignedStatement.
    """
    try:
        roots = _verify_chain(proof.chain, proof.seal, keys)
        leaves = [_verify_entry(each, roots) for each in proof.entries]
    except (ValueError, KeyError, msgspec.DecodeError) as error:
        raise InvalidProof(str(error)) from error
    if len({(each["request_id"], each["organization_id"]) for each in leaves}) != 1:
        raise InvalidProof("The proof is not of one request.")
    if [each["kind"] for each in leaves] not in (["event"], ["event", "amendment"]):
        raise InvalidProof("A proof is of an event, and of its amendment where there is one.")
    return leaves


def compare(statement: Statement, leaves: Sequence[Leaf]) -> None:
    """Raises InvalidProof unless a receipt says what the sealed entries come to."""
    event = leaves[0]
    stated = msgspec.structs.asdict(statement)
    for name in ("request_id", "organization_id", "model", "price_id", "currency"):
        if stated[name] != event[name]:
            raise InvalidProof(f"The receipt's {name} is {stated[name]}, the sealed one {event[name]}.")
    for name in ("input_tokens", "cached_input_tokens", "output_tokens", "items", "amount"):
        sealed = sum((Decimal(each[name]) for each in leaves), Decimal(0))
        if Decimal(stated[name]) != sealed:
            raise InvalidProof(f"The receipt's {name} is {stated[name]}, the sealed one {sealed}.")


def _verify_chain(chain: Chain, seal: str, keys: Mapping[str, Ed25519PublicKey]) -> dict[str, bytes]:
    """The roots of the chain's hours, by where each begins."""
    signed = msgspec.json.decode(read_statement(seal, keys, typ=SEAL_TYPE), type=SealStatement)
    present, roots, before = bytes.fromhex(chain.previous), dict[str, bytes](), None
    for each in chain.hours:
        hour = datetime.strptime(each.hour, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        if before is not None and hour != before + HOUR:
            raise InvalidProof(f"Between {iso(before)} and {each.hour} the chain has a gap.")
        before, roots[each.hour] = hour, bytes.fromhex(each.root)
        present = seal_of(present, hour, roots[each.hour])
    if before is None or (iso(before), present.hex()) != (signed.hour, signed.seal):
        raise InvalidProof("The chain does not lead to the seal that was signed.")
    return roots


def _verify_entry(entry: EntryProof, roots: Mapping[str, bytes]) -> Leaf:
    leaf: Leaf = msgspec.json.decode(entry.leaf)
    organization = msgspec.json.decode(entry.organization, type=OrganizationLeaf)
    root = climb(leaf_hash(entry.leaf.encode()), base64url.decode(entry.path))
    if root.hex() != organization.root or leaf["organization_id"] != organization.organization_id:
        raise InvalidProof("The entry is not under its organization's root.")
    top = climb(leaf_hash(entry.organization.encode()), base64url.decode(entry.organization_path))
    if top != roots[organization.hour]:
        raise InvalidProof("The organization's root is not under the hour's.")
    if leaf["created_at"][:13] != organization.hour[:13]:
        raise InvalidProof("The entry is of another hour.")
    return leaf
