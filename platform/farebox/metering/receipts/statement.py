"""What a receipt states, and how its text is put together."""

from datetime import datetime

import msgspec

from farebox.core import base64url

# In place of a receipt: it is billed, or will be, and its receipt can be had later.
PENDING = "pending"


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What one request came to. Ids are in their external form; the token classes are disjoint; `items` are
    classified inputs or reranked documents; the amount is a plain decimal.

    `model_sha256` names the weights as they were offered; None where they are not known any more.
    """

    request_id: str
    organization_id: str
    model: str
    model_sha256: str | None
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    items: int
    price_id: str
    amount: str
    currency: str
    issued_at: datetime


class SignedRoot(msgspec.Struct, frozen=True):
    """What is signed for a batch: the root of the tree over its statements, in hex; and their number."""

    root: str
    receipts: int


encode_statement = msgspec.json.Encoder().encode


def receipt_text(statement: bytes, path: bytes, signed_root: str) -> str:
    """`statement.path.header.payload.signature`, each part base64url: the last three are a JWS."""
    return f"{base64url.encode(statement)}.{base64url.encode(path)}.{signed_root}"
