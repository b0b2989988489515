"""What a customer gets to check the books with."""

from typing import Literal

import msgspec

from farebox.metering.seals.proofs import Chain, EntryProof


class ProofAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """That a request's event, and what amended it, are in sealed hours.

    Each entry's leaf leads by its path to the organization's root, and that one to the hour's, which is in
    the chain. The chain leads to the seal that is signed: a JWS.
    """

    object: Literal["organization.proof"] = "organization.proof"
    request_id: str
    entries: list[EntryProof]
    chain: Chain
    seal: str


class ReceiptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt that is made from the books; the same text as in the header `Farebox-Receipt`."""

    object: Literal["organization.receipt"] = "organization.receipt"
    request_id: str
    receipt: str
