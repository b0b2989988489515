"""The block pool under any order of calls."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from farebox_engine import EngineError
from farebox_engine.scheduling.blocks import BlockPool, block_key, prefix_root, root_key

BLOCKS = 8
KEYS = [block_key(root_key(b"scope"), [number]) for number in range(12)]


class PoolMachine(RuleBasedStateMachine):
    """Tables of blocks come and go; a model of who holds what is kept beside the pool."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(BLOCKS)
        self.tables: list[list[int]] = []
        self.content: dict[int, bytes] = {}

    def held(self) -> set[int]:
        return {block for table in self.tables for block in table}

    @rule(count=st.integers(0, BLOCKS + 1))
    def allocate(self, count: int) -> None:
        if count > self.pool.free:
            with pytest.raises(EngineError):
                self.pool.allocate(count)
            return
        table = self.pool.allocate(count)
        assert len(set(table)) == count
        assert not set(table) & self.held(), "a held block was handed out"
        for block in table:
            self.content.pop(block, None)
        self.tables.append(table)

    @precondition(lambda self: any(self.tables))
    @rule(data=st.data(), key=st.sampled_from(KEYS))
    def publish(self, data: st.DataObject, key: bytes) -> None:
        block = data.draw(st.sampled_from(sorted(self.held())))
        if block not in self.content and key not in self.content.values():
            self.content[block] = key
        self.pool.publish(block, key)

    @rule(keys=st.lists(st.sampled_from(KEYS), max_size=4, unique=True))
    def reuse(self, keys: list[bytes]) -> None:
        found = self.pool.match(keys)
        assert [self.content[block] for block in found] == keys[: len(found)], "a block of other content"
        if len(found) < len(keys):
            assert keys[len(found)] not in self.content.values(), "a retained block was not found"
        free, idle = self.pool.free, self.pool.idle(found)
        self.pool.hold(found)
        assert self.pool.free == free - idle
        self.tables.append(found)

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.pool.release(self.tables.pop(data.draw(st.integers(0, len(self.tables) - 1))))

    @precondition(lambda self: any(self.tables))
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(sorted(self.held())))
        self.content.pop(block, None)
        self.pool.forget([block])

    @invariant()
    def every_block_is_free_or_held(self) -> None:
        assert self.pool.free == BLOCKS - len(self.held())

    @invariant()
    def holders_are_counted(self) -> None:
        for block in range(BLOCKS):
            assert self.pool.holders(block) == sum(block in table for table in self.tables)


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase


def test_releasing_twice_is_an_error() -> None:
    pool = BlockPool(2)
    table = pool.allocate(1)
    pool.release(table)
    with pytest.raises(EngineError, match="twice"):
        pool.release(table)


def test_the_least_recently_used_prefix_is_given_up_first() -> None:
    pool = BlockPool(3)
    for key in KEYS[:3]:
        table = pool.allocate(1)
        pool.publish(table[0], key)
        pool.release(table)
    pool.hold(recent := pool.match(KEYS[:1]))
    pool.release(recent)
    pool.allocate(1)
    assert pool.match(KEYS[:1])
    assert not pool.match(KEYS[1:2])


def test_a_long_prefix_is_given_up_from_its_end() -> None:
    pool = BlockPool(3)
    table = pool.allocate(3)
    for block, key in zip(table, KEYS, strict=False):
        pool.publish(block, key)
    pool.release(table)
    pool.allocate(1)
    assert pool.match(KEYS[:3]) == table[:2]


def test_neighbouring_blocks_are_preferred() -> None:
    pool = BlockPool(8)
    first, second = pool.allocate(2), pool.allocate(2)
    pool.release(first)
    assert pool.allocate(2, after=second[-1]) == [4, 5]


def test_scopes_do_not_run_into_each_other() -> None:
    assert root_key(b"ab", b"c") != root_key(b"a", b"bc")
    assert block_key(root_key(b"a"), [1]) != block_key(root_key(b"b"), [1])


def test_prefixes_are_shared_by_equal_model_adapter_salt_and_length_only() -> None:
    scope = {"model": "m", "adapter": "", "salt": b"s"}
    roots = [
        prefix_root(model="m", salt=b"s"),
        *(prefix_root(**scope | other) for other in ({"model": "n"}, {"adapter": "a"}, {"salt": b"t"})),  # type: ignore[arg-type]
        prefix_root(model="m", salt=b"s", length=1),
        prefix_root(model="m", salt=b"s", length=2),
        # The parts do not run into each other.
        prefix_root(model="m", adapter="s", salt=b""),
    ]
    assert len(set(roots)) == len(roots)
    assert prefix_root(model="m", salt=b"s") == roots[0]


def test_a_blocks_key_depends_on_all_that_came_before() -> None:
    root = root_key(b"scope")
    assert block_key(block_key(root, [1, 2]), [3, 4]) != block_key(block_key(root, [2, 1]), [3, 4])
    assert block_key(root, [1, 2]) != block_key(root, [2, 1])
