"""Merkle trees of RFC 6962, section 2.1: SHA-256, with a prefix that tells a leaf from a node.

A path leads from a leaf to the root. It is written as steps of 33 bytes: on which side the neighbour stands
(0: left, 1: right), and the neighbour's hash.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

EMPTY = sha256().digest()
LEFT, RIGHT = b"\x00", b"\x01"
HASH_BYTES = 32
STEP_BYTES = 1 + HASH_BYTES


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def climb(node: bytes, path: bytes) -> bytes:
    """The root to which a path leads from the hash of a leaf, or of another node.

    Raises ValueError for bytes that are no path.
    """
    if len(path) % STEP_BYTES:
        raise ValueError("A path consists of steps of 33 bytes.")
    for start in range(0, len(path), STEP_BYTES):
        side, neighbour = path[start : start + 1], path[start + 1 : start + STEP_BYTES]
        if side not in (LEFT, RIGHT):
            raise ValueError("A step's neighbour stands on the left (0) or on the right (1).")
        node = node_hash(neighbour, node) if side == LEFT else node_hash(node, neighbour)
    return node


class MerkleTree:
    """A tree that is kept whole, for the path of any of its leaves. Made of the leaves' hashes."""

    __slots__ = ("_levels",)

    def __init__(self, leaves: Sequence[bytes]) -> None:
        level = list(leaves)
        self._levels = [level]
        while len(level) > 1:
            above = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
            if len(level) % 2:
                above.append(level[-1])
            self._levels.append(level := above)

    @property
    def root(self) -> bytes:
        return self._levels[-1][0] if self._levels[-1] else EMPTY

    def path(self, index: int) -> bytes:
        """From leaf `index` to the root."""
        steps = []
        for level in self._levels[:-1]:
            if index % 2:
                steps.append(LEFT + level[index - 1])
            elif index + 1 < len(level):
                steps.append(RIGHT + level[index + 1])
            index //= 2
        return b"".join(steps)


class MerkleStream:
    """The root of leaves that come one by one, in memory of their number's logarithm, and the path of one of
    them.

    What is kept are the roots of whole subtrees, as large as the powers of two that the count consists of.
    """

    __slots__ = ("_follows", "_path", "_subtrees", "count")

    def __init__(self) -> None:
        self._subtrees: list[bytes] = []
        self._follows: int | None = None
        self._path = b""
        self.count = 0

    def add(self, leaf: bytes, *, follow: bool = False) -> None:
        """`follow` the one leaf whose path is wanted."""
        if follow:
            self._follows = self.count
        subtrees = self._subtrees
        self.count += 1
        size, rest = 1, self.count
        # As often as the count's binary notation ends in noughts.
        while not rest & 1:
            left = subtrees.pop()
            if self._follows is not None:
                self._step(left, leaf, size, size)
            leaf = sha256(b"\x01" + left + leaf).digest()
            size <<= 1
            rest >>= 1
        subtrees.append(leaf)

    def extend(self, leaves: Iterable[bytes]) -> None:
        for leaf in leaves:
            self.add(leaf)

    def finish(self) -> bytes:
        """The root; nothing may be added after it."""
        if not self._subtrees:
            return EMPTY
        root = self._subtrees.pop()
        end = self.count & -self.count
        for left in reversed(self._subtrees):
            rest = self.count & ~(2 * end - 1)
            size = rest & -rest
            self._step(left, root, size, self.count & (size - 1))
            root, end = node_hash(left, root), size
        return root

    @property
    def path(self) -> bytes:
        """From the leaf that is followed to the root, once that is known."""
        return self._path

    def _step(self, left: bytes, right: bytes, left_size: int, right_size: int) -> None:
        """Note the neighbour of the leaf's subtree, if these two are joined, which come last."""
        middle = self.count - right_size
        if self._follows is not None and middle - left_size <= self._follows:
            self._path += LEFT + left if self._follows >= middle else RIGHT + right
