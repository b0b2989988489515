"""Promise: any number of replicas agree, for the row is the truth; and any settles what a dead one left."""

import asyncio
import time
from decimal import Decimal

from farebox.core.ids import external
from farebox.limits.service import LimitChange, set_limits
from farebox.metering.admission import LEASE
from tests.chaos.audit import audit, event_of
from tests.chaos.books import read_and_check_books
from tests.chaos.conftest import Pair
from tests.chaos.load import ask_at_once, chat, long_stream
from tests.chaos.stage import SEND_BUFFER_BYTES, Stage
from tests.dashboard.browsers import FormBrowser, sign_in_by_cookie

LEASE_SECONDS = LEASE.total_seconds()
PROMPT = "The children count the wagons of the train on the bridge, one by one, until the lamps are lit."


async def test_a_key_revoked_through_one_replica_is_refused_by_the_other_at_once(
    stage: Stage, pair: Pair
) -> None:
    one, other = pair
    tenant = await stage.tenant(Decimal(1))
    client = await stage.client(other, tenant)
    before = await client.call(chat(PROMPT, 5, stream=False))
    async with FormBrowser(one.url) as browser:
        await sign_in_by_cookie(stage.database, browser, tenant.user_id)
        done = await browser.submit("/keys", f"/keys/{external('key', client.key_id)}/revoke")
    after = await client.call(chat(PROMPT, 5, stream=False))
    assert (before.status, done.status_code, after.status) == (200, 303, 401)
    await audit(stage.database, stage.tenants, [before, after])


async def test_a_keys_concurrency_holds_across_replicas(stage: Stage, pair: Pair) -> None:
    tenant = await stage.tenant(Decimal(1))
    clients = await stage.clients(pair, tenant)
    async with stage.database.transaction(organization_id=tenant.organization_id) as session:
        change = LimitChange(concurrent_requests=5)
        await set_limits(session, tenant.organization_id, clients[0].key_id, change)
    calls = await ask_at_once(clients, 20)
    refused = [call for call in calls if call.fate == "refused"]
    assert len(refused) == 15
    assert {(call.status, call.error and call.error["code"]) for call in refused} == {
        (429, "rate_limit_exceeded")
    }
    afterwards = [await client.call(chat(PROMPT, 5, stream=True)) for client in clients]
    assert [call.fate for call in afterwards] == ["whole", "whole"]
    await audit(stage.database, stage.tenants, calls + afterwards)


async def test_a_replica_settles_what_another_left_when_it_was_killed(stage: Stage, pair: Pair) -> None:
    """At the last checkpoint, once the lease has run out; with the tokens that the prefix cache served.

    The client does not read: what its socket did not take dies with the replica, and is not billed.
    """
    dying, tenant = stage.server(SEND_BUFFER_BYTES), await stage.tenant(Decimal(1))
    await dying.start()
    client = await stage.client(dying, tenant)
    first, again = [await client.call(chat(PROMPT, 5, stream=False)) for _ in range(2)]
    assert again.usage is not None
    assert again.usage.prompt_tokens_details.cached_tokens
    dead = asyncio.Event()
    asking = asyncio.create_task(client.call(long_stream(PROMPT), once_begun=lambda _: dead.wait()))
    await stage.until_halted()
    died = await dying.kill()
    dead.set()
    cut = await asking
    await stage.all_released()
    # The last renewal was a second ago or two; the other looks once a second, and not before it is
    # connected for ten.
    assert LEASE_SECONDS - 3 < time.time() - died < LEASE_SECONDS + 15
    assert cut.fate == "interrupted"
    await audit(stage.database, stage.tenants, [first, again, cut], [dying])
    event = event_of(cut, await read_and_check_books(stage.database, stage.tenants))
    assert event.status == "interrupted"
    assert event.output_tokens > 0
    assert (event.input_tokens, event.cached_input_tokens) == again.usage.classes[:2]
