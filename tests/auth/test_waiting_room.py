"""Turns and places, shared among groups, and among the groups within them."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from farebox.auth.waiting_room import Path, WaitingRoom
from farebox.core.errors import Unavailable
from tests.waiting import WAIT_SECONDS


class Crowd:
    """Guests of one room, who note when they have their turn; the first one has it until let go."""

    def __init__(self, places: int) -> None:
        self.room = WaitingRoom(1, places)
        self.served: list[str] = []
        self.refused: list[str] = []
        self._go = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def fill(self, *names: str) -> None:
        """Let them come one after the other; a name is its path: `abc` is of `ab`, which is of `a`."""
        for name in names:
            self._tasks.append(asyncio.create_task(self._come(name)))
            await asyncio.sleep(0)
        # Who was sent away in the end has to hear of it.
        await asyncio.sleep(0)

    async def empty(self) -> list[str]:
        """Let all have their turn: in which order."""
        self._go.set()
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.gather(*self._tasks)
        return self.served

    def leave(self, place: int) -> None:
        self._tasks[place].cancel()

    async def _come(self, name: str) -> None:
        try:
            async with self.room.turn(_path(name)):
                self.served.append(name)
                await self._go.wait()
        except Unavailable:
            self.refused.append(name)
        except asyncio.CancelledError:
            self.refused.append("left")

    async def go_home(self) -> None:
        """Nobody waits any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def crowd_of() -> AsyncIterator[Callable[[int], Crowd]]:
    """Makes the crowd of a room with so many places."""
    crowds: list[Crowd] = []

    def make(places: int) -> Crowd:
        crowds.append(Crowd(places))
        return crowds[-1]

    yield make
    for crowd in crowds:
        await crowd.go_home()


def _path(name: str) -> Path:
    return name[0], name[:2], name


async def test_a_newcomer_takes_the_place_of_the_last_one_of_the_largest_group(
    crowd_of: Callable[[int], Crowd],
) -> None:
    crowd = crowd_of(6)
    # The first has the turn. Two holders of a site each fill the room with networks of theirs.
    await crowd.fill("zzz", "aa1", "aa2", "aa3", "bb1", "bb2", "bb3")
    await crowd.fill("ccc", "ddd")
    assert crowd.refused == ["bb3", "aa3"]
    assert set(await crowd.empty()) == {"zzz", "aa1", "aa2", "bb1", "bb2", "ccc", "ddd"}


async def test_a_site_of_a_provider_takes_from_the_larger_site_of_it(
    crowd_of: Callable[[int], Crowd],
) -> None:
    crowd = crowd_of(4)
    await crowd.fill("zzz", "aa1", "aa2", "aa2", "ab1")
    await crowd.fill("ac1")
    assert crowd.refused == ["aa2"]
    await crowd.fill("aa1")
    assert crowd.refused == ["aa2", "aa1"]


async def test_who_would_have_as_many_is_refused_at_once(crowd_of: Callable[[int], Crowd]) -> None:
    crowd = crowd_of(3)
    await crowd.fill("zzz", "aaa", "bbb", "ccc")
    await crowd.fill("ddd", "aaa")
    assert crowd.refused == ["ddd", "aaa"]
    assert await crowd.empty() == ["zzz", "aaa", "bbb", "ccc"]


async def test_turns_go_round_among_groups_on_every_level(crowd_of: Callable[[int], Crowd]) -> None:
    crowd = crowd_of(9)
    await crowd.fill("zzz", "aa1", "aa1", "aa2", "ab1", "ab1", "bbb", "ccc", "zz1")
    assert await crowd.empty() == ["zzz", "aa1", "bbb", "ccc", "zz1", "ab1", "aa2", "ab1", "aa1"]


async def test_who_gives_up_has_no_place_and_no_turn(crowd_of: Callable[[int], Crowd]) -> None:
    crowd = crowd_of(2)
    await crowd.fill("zzz", "aaa", "bbb")
    crowd.leave(1)
    await crowd.fill("ccc")
    assert crowd.refused == ["left"]
    assert await crowd.empty() == ["zzz", "bbb", "ccc"]


async def test_a_turn_that_comes_as_its_guest_gives_up_goes_to_the_next(
    crowd_of: Callable[[int], Crowd],
) -> None:
    crowd = crowd_of(2)
    await crowd.fill("zzz", "aaa", "bbb")
    # The first ends and the second is called, and gives up before it has heard.
    asyncio.get_running_loop().call_soon(crowd.leave, 1)
    crowd.leave(0)
    assert await crowd.empty() == ["zzz", "bbb"]


async def test_after_a_turn_the_room_rests() -> None:
    now = 0.0
    room = WaitingRoom(1, 2, rest=10, clock=lambda: now)
    async with room.turn(_path("aaa")):
        now = WAIT_SECONDS
    # The turn is over, and yet nobody has the next one.
    second = asyncio.create_task(_take(room, lambda: None))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not second.done()
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def _take(room: WaitingRoom, do: Callable[[], None]) -> None:
    async with room.turn(_path("bbb")):
        do()


@pytest.mark.parametrize("rest", [0.0, 1.0])
async def test_after_the_rest_the_next_one_has_a_turn(rest: float) -> None:
    room, done = WaitingRoom(1, 2, rest=rest), list[int]()
    for number in range(3):
        await asyncio.wait_for(_take(room, lambda number=number: done.append(number)), WAIT_SECONDS)  # type: ignore[misc]
    assert done == [0, 1, 2]
