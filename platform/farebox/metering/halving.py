"""One bad item must not keep the others back: a batch that fails is tried again by halves."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from farebox.core.errors import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


async def by_halves(
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], Awaitable[Result]],
    *,
    narrow: type[Exception],
    done: Callable[[Sequence[Item], Result], None],
    refused: Callable[[Item, Exception], None],
) -> None:
    """Run `work` over all items, or over parts of them until only those that fail alone are left out.

    When `work` raises `narrow`, it must have changed nothing: it is called again with each half. `done` gets
    every part that went through, with what came of it; `refused` each single item that did not, with its
    error, inside the handler of that. Both are called in the order of the items. Other exceptions pass, with
    what went through before them done; Unavailable does, too, which no smaller part would mend.
    """
    try:
        result = await work(items)
    except Unavailable:
        raise
    except narrow as error:
        if len(items) == 1:
            refused(items[0], error)
            return
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            await by_halves(half, work, narrow=narrow, done=done, refused=refused)
    else:
        done(items, result)
