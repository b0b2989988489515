"""Checking a receipt with nothing but the published keys."""

from collections.abc import Mapping

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from farebox.core import base64url
from farebox.core.merkle import climb, leaf_hash
from farebox.keys.jws import read_statement
from farebox.keys.receipt_keys import ROOT_TYPE
from farebox.metering.receipts.statement import SignedRoot, Statement


class InvalidReceipt(ValueError):
    """The text is no receipt, or not one of who published the keys."""


def verify_receipt(text: str, keys: Mapping[str, Ed25519PublicKey]) -> Statement:
    """What the receipt states. Raises InvalidReceipt, or InvalidSignedStatement."""
    parts = text.strip().split(".", 2)
    if len(parts) != 3:
        raise InvalidReceipt("A receipt has five parts, with dots between them.")
    try:
        leaf, path = base64url.decode(parts[0]), base64url.decode(parts[1])
        root = climb(leaf_hash(leaf), path)
        signed = msgspec.json.decode(read_statement(parts[2], keys, typ=ROOT_TYPE), type=SignedRoot)
        statement = msgspec.json.decode(leaf, type=Statement)
    except (ValueError, msgspec.DecodeError) as error:
        raise InvalidReceipt(str(error)) from error
    if root.hex() != signed.root:
        raise InvalidReceipt("What it states does not belong to the root that was signed.")
    return statement
