"""The door for Stripe's webhooks: who is believed, what is stored, and what is never done twice."""

import json
import time
from typing import Any

import httpx
import pytest
from stripe import WebhookSignature

from farebox.billing.models_stripe import StripeEvent
from farebox.billing.stripe.events.signatures import TOLERANCE_SECONDS
from farebox.core.ids import new_id
from tests.billing.stripe.shop import Shop
from tests.gateway.servers import RunningServer


def an_event(**changes: Any) -> dict[str, Any]:
    """A thin one, of a type that is followed."""
    return {
        "id": f"evt_test_{new_id().hex}",
        "object": "v2.core.event",
        "type": "v1.checkout.session.completed",
        "created": "2026-12-01T00:00:00.000Z",
        "livemode": False,
        "context": None,
        "related_object": {"id": "cs_test_1", "type": "checkout.session", "url": "/v1/checkout/sessions/x"},
    } | changes


def thin_secret(shop: Shop) -> str:
    return str(shop.settings.stripe_webhook_secret)


def sign(body: bytes, secret: str, at: float | None = None) -> str:
    moment = int(time.time() if at is None else at)
    return str(WebhookSignature.generate_signature_header(body.decode("utf-8", "replace"), secret, moment))


async def send(site: RunningServer, body: bytes, *signatures: str | bytes) -> httpx.Response:
    headers: Any = [("content-type", "application/json")]
    headers += [("stripe-signature", signature) for signature in signatures]
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(f"{site.url}/webhooks/stripe", content=body, headers=headers)


async def stored(shop: Shop, event: dict[str, Any]) -> StripeEvent | None:
    async with shop.database.meter_transaction() as session:
        return await session.get(StripeEvent, event["id"])


async def test_a_signed_event_is_stored_with_its_state_and_a_job_to_do(
    shop: Shop, site: RunningServer
) -> None:
    event = an_event()
    body = json.dumps(event).encode()
    answer = await send(site, body, sign(body, thin_secret(shop)))
    assert answer.status_code == 200
    row = await stored(shop, event)
    assert row is not None
    assert (row.type, row.object_id, row.state) == ("checkout.session.completed", "cs_test_1", "pending")
    assert [item.payload for item in await shop.waiting()] == [{"event": event["id"]}]


async def test_the_same_event_again_is_taken_and_not_done_again(shop: Shop, site: RunningServer) -> None:
    body = json.dumps(an_event()).encode()
    answers = [await send(site, body, sign(body, thin_secret(shop))) for _ in range(2)]
    assert [answer.json() for answer in answers] == [
        {"received": True, "new": True},
        {"received": True, "new": False},
    ]
    assert len(await shop.waiting()) == 1


OFF_BY = [
    -TOLERANCE_SECONDS - 60,
    TOLERANCE_SECONDS + 60,  # which the package's own check believes
]


@pytest.mark.parametrize("seconds", OFF_BY)
async def test_a_signature_of_another_time_is_refused(shop: Shop, site: RunningServer, seconds: int) -> None:
    event = an_event()
    body = json.dumps(event).encode()
    answer = await send(site, body, sign(body, thin_secret(shop), time.time() + seconds))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_signature")
    assert await stored(shop, event) is None


@pytest.mark.parametrize("seconds", [-TOLERANCE_SECONDS + 60, TOLERANCE_SECONDS - 60])
async def test_clocks_may_differ_a_little(shop: Shop, site: RunningServer, seconds: int) -> None:
    body = json.dumps(an_event()).encode()
    assert (await send(site, body, sign(body, thin_secret(shop), time.time() + seconds))).is_success


async def test_what_was_not_signed_by_stripe_is_refused(shop: Shop, site: RunningServer) -> None:
    event = an_event()
    body = json.dumps(event).encode()
    good = sign(body, thin_secret(shop))
    number = good.split(",")[0]
    forged: list[tuple[str | bytes, ...]] = [
        (),
        ("",),
        (sign(body, "whsec_somebody_elses"),),
        (sign(body, str(shop.settings.stripe_snapshot_secret)),),
        (good.replace("v1=", "v0="),),
        (number,),
        (f"{number},v1=",),
        (f"{good},t=1",),
        ("t=1_700_000_000,v1=00",),
        (f"t={'9' * 5000},v1=00",),
        (b"t=\xd9\xa1,v1=\xff",),
        (f"{number},v1=é".encode(),),
        (good, good),
    ]
    for signatures in forged:
        answer = await send(site, body, *signatures)
        assert answer.status_code == 400, signatures
    assert (await send(site, body + b" ", good)).status_code == 400
    assert await stored(shop, event) is None


async def test_bytes_that_are_no_text_are_refused(shop: Shop, site: RunningServer) -> None:
    for body in (b'{"object": "v2.core.event", "id": "\xff"}', b"\xff\xfe", b"", b"[" * 50_000, b"null"):
        answer = await send(site, body, sign(body, thin_secret(shop)))
        assert answer.status_code == 400, body[:20]


@pytest.mark.parametrize("fault", [{"id": 1}, {"id": "evt\0"}, {"type": None}, {"livemode": "no"}])
async def test_what_is_signed_and_is_no_event_is_refused(
    shop: Shop, site: RunningServer, fault: dict[str, Any]
) -> None:
    body = json.dumps(an_event(**fault)).encode()
    assert (await send(site, body, sign(body, thin_secret(shop)))).status_code == 400


async def test_a_body_of_five_megabytes_is_refused_unread(shop: Shop, site: RunningServer) -> None:
    body = json.dumps(an_event(padding="x" * 5_000_000)).encode()
    answer = await send(site, body, sign(body, thin_secret(shop)))
    assert answer.status_code == 413


IGNORED = [
    ({"livemode": True}, "other mode"),
    ({"context": "acct_of_somebody_else"}, "another account"),
    ({"type": "v1.product.created"}, "Nothing here depends"),
    ({"type": "v1.invented.next.year"}, "Nothing here depends"),
]


@pytest.mark.parametrize(("change", "reason"), IGNORED)
async def test_what_is_not_ours_is_stored_and_ignored(
    shop: Shop, site: RunningServer, change: dict[str, Any], reason: str
) -> None:
    event = an_event(**change)
    body = json.dumps(event).encode()
    assert (await send(site, body, sign(body, thin_secret(shop)))).status_code == 200
    row = await stored(shop, event)
    assert row is not None
    assert row.state == "ignored"
    assert reason in str(row.note)
    assert await shop.waiting() == []


async def test_events_of_another_account_forged_by_stripes_own_secret_are_ignored(shop: Shop) -> None:
    row = await shop.order()
    thing: Any = shop.control.thing(str(row.session_id))
    status = await shop.control.forge_event(
        "checkout.session.completed",
        thing | {"payment_status": "paid", "status": "complete"},
        shop.destinations["thin"],
        account="acct_other",
    )
    assert status == 200
    await shop.work()
    assert await shop.balance() == 0


async def test_an_event_that_lies_about_its_object_credits_nothing(shop: Shop) -> None:
    """The object is read anew: what the event says of it is not believed."""
    row = await shop.order()
    thing: Any = shop.control.thing(str(row.session_id))
    lie = thing | {"payment_status": "paid", "status": "complete"}
    for destination in shop.destinations.values():
        assert await shop.control.forge_event("checkout.session.completed", lie, destination) == 200
    await shop.work()
    assert (await shop.fresh(row)).state == "open"
    assert await shop.balance() == 0


async def test_snapshots_do_as_thin_events_do(shop: Shop) -> None:
    row = await shop.order()
    shop.control.hold_events()
    shop.pay(row)
    thing: Any = shop.control.thing(str(row.session_id))
    told = await shop.control.forge_event("checkout.session.completed", thing, shop.destinations["snapshot"])
    assert told == 200
    worker = shop.worker()
    while await worker.work_off():
        pass
    assert await shop.balance() == 25


async def test_a_replaced_secret_is_believed_beside_the_new_one(shop: Shop) -> None:
    from farebox.billing.stripe.events.signatures import check_signature  # noqa: PLC0415

    body = b"{}"
    assert check_signature(body, [sign(body, "whsec_old")], ["whsec_new", "whsec_old"]) == "{}"
