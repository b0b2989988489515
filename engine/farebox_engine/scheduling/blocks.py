"""KV-cache blocks: who holds which, and which still hold a prefix worth reusing."""

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from itertools import takewhile

from farebox_engine.errors import EngineError


def root_key(*scope: bytes) -> bytes:
    """The key before the first block: prefixes are shared only within one scope (model, salt)."""
    digest = hashlib.sha256()
    for part in scope:
        # Lengths keep (b"ab", b"c") and (b"a", b"bc") apart.
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def prefix_root(*, model: str, salt: bytes, adapter: str = "", length: int | None = None) -> bytes:
    """The root of a request's keys: what must be equal for two requests to share blocks.

    The `model` version (the hash of its weights), the `adapter` on top of it, the
    tenant's `salt`, and, for models whose keys depend on it, the prompt's `length`.
    """
    scope = [model.encode(), adapter.encode(), salt]
    if length is not None:
        scope.append(length.to_bytes(8, "little"))
    return root_key(*scope)


def block_key(parent: bytes, tokens: Sequence[int]) -> bytes:
    """The key of a full block: SHA-256 over its parent's key and its tokens.

    A cryptographic hash, because a collision would show one tenant another's context.
    """
    return hashlib.sha256(parent + array("q", tokens).tobytes()).digest()


class BlockPool:
    """Hands out KV blocks, counts their holders, and keeps released ones for prefix reuse.

    A block is *blank* (free, nothing worth keeping), *retained* (free, but reachable by
    its key until it is needed for something else, least recently used first) or held by
    one or more sequences. A block is blank or retained exactly when nobody holds it.

    A block that is reachable is *served* once a request that it belongs to was. Until then whoever
    reuses it saves the work, but not its price: else one could have a prompt computed, leave before
    anything is billed, and come back for the price of cached tokens.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._holders = [0] * num_blocks
        self._keys: list[bytes | None] = [None] * num_blocks
        self._by_key: dict[bytes, int] = {}
        self._served = [False] * num_blocks
        # Dicts as ordered sets: O(1) at both ends and in the middle.
        self._blank: dict[int, None] = dict.fromkeys(range(num_blocks))
        self._retained: dict[int, None] = {}

    @property
    def free(self) -> int:
        """How many blocks can be allocated now."""
        return len(self._blank) + len(self._retained)

    def holders(self, block: int) -> int:
        """How many sequences hold `block`."""
        return self._holders[block]

    def match(self, keys: Iterable[bytes]) -> list[int]:
        """The blocks that hold the longest prefix of `keys`; they are not held yet."""
        blocks = []
        for key in keys:
            block = self._by_key.get(key)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def idle(self, blocks: Iterable[int]) -> int:
        """How many of `blocks` nobody holds, so that holding them uses up free ones."""
        return sum(not self._holders[block] for block in blocks)

    def hold(self, blocks: Iterable[int]) -> None:
        """Add a holder to each of `blocks`, as returned by `match`."""
        for block in blocks:
            if not self._holders[block]:
                del self._retained[block]
            self._holders[block] += 1

    def allocate(self, count: int, after: int | None = None) -> list[int]:
        """Take `count` blocks with one holder each, next to `after` and each other where possible.

        Neighbouring blocks can be read as one slice instead of being gathered.

        Raises:
            EngineError: fewer than `count` are free; the scheduler checks first.
        """
        if count > self.free:
            raise EngineError(f"{count} KV blocks wanted, {self.free} free.")
        blocks = []
        for _ in range(count):
            after = self._take(after)
            blocks.append(after)
        return blocks

    def release(self, blocks: Sequence[int]) -> None:
        """Drop one holder of each block; a sequence's last blocks become the first to be reused."""
        for block in reversed(blocks):
            if not self._holders[block]:
                raise EngineError(f"KV block {block} was released twice.")
            self._holders[block] -= 1
            if not self._holders[block]:
                (self._retained if self._keys[block] else self._blank)[block] = None

    def publish(self, block: int, key: bytes) -> None:
        """Make a full block reachable by its key; the first of two equal blocks wins."""
        if self._keys[block] is None and key not in self._by_key:
            self._keys[block] = key
            self._by_key[key] = block

    def serve(self, keys: Iterable[bytes]) -> None:
        """Note that a request which these keys lead through was served."""
        for key in keys:
            if (block := self._by_key.get(key)) is not None:
                self._served[block] = True

    def served(self, blocks: Iterable[int]) -> int:
        """How many of `blocks`, from the first on, were served."""
        return sum(1 for _ in takewhile(self._served.__getitem__, blocks))

    def forget(self, blocks: Iterable[int]) -> None:
        """Make `blocks` unreachable by key, because what they hold cannot be trusted."""
        for block in blocks:
            key = self._keys[block]
            if key is None:
                continue
            self._keys[block] = None
            self._served[block] = False
            del self._by_key[key]
            if block in self._retained:
                del self._retained[block]
                self._blank[block] = None

    def _take(self, after: int | None) -> int:
        neighbour = None if after is None else after + 1
        if neighbour in self._blank:
            block = neighbour
            del self._blank[block]
        elif self._blank:
            block = next(iter(self._blank))
            del self._blank[block]
        else:
            block = next(iter(self._retained))
            self.forget((block,))
            del self._blank[block]
        self._holders[block] = 1
        return block
