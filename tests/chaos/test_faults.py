"""Promise: whatever dies, and at any moment: nothing is lost, nothing doubled, nothing over-billed."""

import asyncio
import random
from collections.abc import AsyncIterator
from functools import partial

import pytest

from tests.chaos import faults
from tests.chaos.audit import examine
from tests.chaos.conftest import Pair, Wires
from tests.chaos.faults import Fault, Scene
from tests.chaos.load import Load
from tests.chaos.record import Row
from tests.chaos.stage import Stage
from tests.waiting import eventually

SEED = 30
# How long a client that was turned away lets pass before it asks again.
BACK_OFF_SECONDS = 0.2
# Of all kills, so many fall to each of the first group and to all of the second by one in so many.
DOUBLE_FAULTS = (faults.lock_and_kill, faults.lose_an_answer_and_kill, faults.outage_and_kill)
OTHERS = (
    faults.terminate,
    faults.freeze,
    faults.lock,
    faults.cut,
    faults.lose_answers,
    faults.outage_and_full_disk,
)
# One kill in so many is half of one of the double faults; for so many kills there is a round of the others.
KILLS_A_DOUBLE_FAULT = 6
KILLS_A_ROUND = 20


@pytest.fixture
async def scene(stage: Stage, pair: Pair, wires: Wires) -> AsyncIterator[Scene]:
    yield Scene(stage, pair, wires, random.Random(SEED))
    for server in pair:
        if not server.up.is_set():
            await server.start()


async def live_through(scene: Scene, fault: Fault, rounds: int) -> Row:
    """So many times the same fault, under a load of streams and whole answers, and what came of it."""
    load = Load(partial(asyncio.sleep, BACK_OFF_SECONDS))
    before = [(server.kills, len(server.starts)) for server in scene.servers]
    await scene.stage.populate(load, scene.servers, tenants=3, clients=4, seed=SEED)
    for _ in range(rounds):
        await fault(scene)
    await load.stop()
    for server in scene.servers:
        await eventually(server.at_rest)
    await scene.stage.all_released()
    findings = await examine(scene.stage.database, scene.stage.tenants, load.calls, scene.servers)
    assert {call.status for call in load.calls} <= {None, 200, 503}
    assert findings.fates["whole, stream"]
    assert findings.fates["whole, whole"]
    since = list(zip(scene.servers, before, strict=True))
    return Row(
        fault.__name__.replace("_", " "),
        rounds,
        sum(server.kills - kills for server, (kills, _) in since),
        [seconds for server, (_, starts) in since for seconds in server.starts[starts:]],
        findings,
    )


async def test_two_kills_lose_double_and_overbill_nothing(scene: Scene) -> None:
    row = await live_through(scene, faults.kill, 2)
    row.findings.assert_none()
    assert row.findings.fates["interrupted, stream"]


@pytest.mark.chaos
@pytest.mark.parametrize("fault", [faults.kill, *DOUBLE_FAULTS, *OTHERS], ids=lambda fault: fault.__name__)
async def test_nothing_is_lost_doubled_or_overbilled(
    scene: Scene, fault: Fault, kills: int, rows: list[Row]
) -> None:
    rows.append(await live_through(scene, fault, rounds_of(fault, kills)))
    rows[-1].findings.assert_none()


def rounds_of(fault: Fault, kills: int) -> int:
    doubles = max(1, kills // KILLS_A_DOUBLE_FAULT)
    if fault is faults.kill:
        return max(1, kills - doubles * len(DOUBLE_FAULTS))
    return doubles if fault in DOUBLE_FAULTS else max(1, kills // KILLS_A_ROUND)
