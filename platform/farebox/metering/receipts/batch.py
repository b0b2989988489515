"""Receipts of a batch: one signature for all of them, over the root of a tree.

A signature for each answer costs a third of the throughput; a tree costs each answer three hashes.
"""

from collections.abc import Callable, Sequence

import msgspec

from farebox.core.merkle import MerkleTree, leaf_hash
from farebox.metering.receipts.statement import (
    PENDING,
    SignedRoot,
    Statement,
    encode_statement,
    receipt_text,
)

# Signs a root; the text is a JWS in compact form.
Sign = Callable[[bytes], str]


class Receipt:
    """One receipt of a batch. Its text is put together when it is asked for, in the answer's own task: so a
    large batch does not keep the event loop to itself."""

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: "ReceiptBatch | None", index: int) -> None:
        self._batch = batch
        self._index = index

    @property
    def text(self) -> str:
        return PENDING if self._batch is None else self._batch.text(self._index)


# Of what is not in Postgres yet, or was booked at another time.
LATER = Receipt(None, 0)


class ReceiptBatch:
    """The receipts over statements that are booked together."""

    __slots__ = ("_signed_root", "_statements", "_tree")

    def __init__(self, statements: Sequence[Statement], sign: Sign) -> None:
        self._statements = [encode_statement(each) for each in statements]
        self._tree = MerkleTree([leaf_hash(each) for each in self._statements])
        root = SignedRoot(self._tree.root.hex(), len(statements))
        self._signed_root = sign(msgspec.json.encode(root))

    def text(self, index: int) -> str:
        return receipt_text(self._statements[index], self._tree.path(index), self._signed_root)
