"""Events on their way: signed, thin or whole, held, doubled, reordered, tried again, forged."""

import json
import time
from typing import Any, cast

import httpx
import pytest
import stripe
from stripe import StripeClient
from stripe.v2.core import EventDestination

from tests.stripe_server.server import StripeServer
from tests.test_stripe_server.hooks import Hooks
from tests.test_stripe_server.orders import top_up


def thin(client: StripeClient, hooks: Hooks, *types: str) -> EventDestination:
    return client.v2.core.event_destinations.create(
        {
            "name": "hooks",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": list(types) or ["v1.customer.created"],
            "webhook_endpoint": {"url": hooks.url},
            "include": ["webhook_endpoint.signing_secret", "webhook_endpoint.url"],
        }
    )


def secret(destination: EventDestination) -> str:
    return cast(str, cast(Any, destination.webhook_endpoint).signing_secret)


def names(hooks: Hooks) -> list[str]:
    return [json.loads(arrival.body)["related_object"]["id"] for arrival in hooks.arrivals]


def test_a_thin_notice_leads_to_its_object(
    client: StripeClient, stripe_server: StripeServer, hooks: Hooks
) -> None:
    destination = thin(client, hooks)
    customer = client.v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "key-1"})
    stripe_server.control.wait_until_settled()
    (arrival,) = hooks.arrivals
    notice: Any = client.parse_event_notification(arrival.body, arrival.signature, secret(destination))
    assert (notice.type, notice.livemode) == ("v1.customer.created", False)
    assert (notice.related_object.id, notice.related_object.type) == (customer.id, "customer")
    assert notice.reason.request.idempotency_key == "key-1"
    assert notice.fetch_related_object().email == "a@example.com"
    event = notice.fetch_event()
    assert (event.id, event.type) == (notice.id, notice.type)
    assert client.v1.events.retrieve(event.snapshot_event).data.object["id"] == customer.id
    with pytest.raises(ValueError, match="thin event"):
        client.construct_event(arrival.body, arrival.signature, secret(destination))


def test_a_signature_has_schemes_to_pass_over(
    client: StripeClient, stripe_server: StripeServer, hooks: Hooks
) -> None:
    thin(client, hooks)
    client.v1.customers.create({})
    stripe_server.control.wait_until_settled()
    schemes = [part.partition("=")[0] for part in hooks.arrivals[0].signature.split(",")]
    assert schemes == ["t", "v1", "v0"]


def test_a_snapshot_carries_its_object_as_it_was(
    client: StripeClient, stripe_server: StripeServer, hooks: Hooks
) -> None:
    destination = client.v2.core.event_destinations.create(
        {
            "name": "snapshots",
            "type": "webhook_endpoint",
            "event_payload": "snapshot",
            "snapshot_api_version": stripe_server.api_version,
            "enabled_events": ["customer.updated"],
            "webhook_endpoint": {"url": hooks.url},
            "include": ["webhook_endpoint.signing_secret"],
        }
    )
    customer = client.v1.customers.create({"name": "Pat"})
    client.v1.customers.update(customer.id, {"name": "Kim"})
    client.v1.customers.update(customer.id, {"name": "Lou"})
    stripe_server.control.wait_until_settled()
    first = hooks.arrivals[0]
    event = client.construct_event(first.body, first.signature, secret(destination))
    assert event.data.object["name"] == "Kim"
    assert cast(Any, event.data.previous_attributes).to_dict() == {"name": "Pat"}
    with pytest.raises(stripe.SignatureVerificationError):
        client.construct_event(first.body, first.signature, "whsec_somebody_elses")


def test_an_endpoint_of_v1_tells_its_secret_once(
    client: StripeClient, stripe_server: StripeServer, hooks: Hooks
) -> None:
    endpoint = client.v1.webhook_endpoints.create({"url": hooks.url, "enabled_events": ["*"]})
    assert not hasattr(client.v1.webhook_endpoints.retrieve(endpoint.id), "secret")
    client.v1.customers.create({})
    stripe_server.control.wait_until_settled()
    (arrival,) = hooks.arrivals
    assert client.construct_event(arrival.body, arrival.signature, endpoint.secret).type == "customer.created"


def test_only_what_was_asked_for_is_sent_and_only_where_it_is_wanted(
    client: StripeClient, stripe_server: StripeServer, hooks: Hooks
) -> None:
    destination = thin(client, hooks, "v1.customer.deleted")
    client.v1.customers.create({})
    client.v2.core.event_destinations.update(destination.id, {"enabled_events": ["v1.customer.created"]})
    wanted = client.v1.customers.create({})
    client.v2.core.event_destinations.disable(destination.id)
    client.v1.customers.create({})
    stripe_server.control.wait_until_settled()
    assert names(hooks) == [wanted.id]


def test_an_event_is_sent_until_it_is_taken(
    client: StripeClient, stripe_server: StripeServer, hooks: Hooks
) -> None:
    thin(client, hooks)
    hooks.answers = [500, 404]
    stripe_server.control.set_delivery(retry_seconds=3600)
    client.v1.customers.create({})
    for _ in range(3):
        stripe_server.control.wait_until_settled()
        stripe_server.control.retry_now()
    stripe_server.control.wait_until_settled(delivered=True)
    (delivery,) = stripe_server.control.deliveries()
    assert (delivery["state"], delivery["answers"]) == ("delivered", [500, 404, 200])


def test_retries_come_by_themselves(client: StripeClient, stripe_server: StripeServer, hooks: Hooks) -> None:
    thin(client, hooks)
    hooks.answers = [500]
    stripe_server.control.set_delivery(retry_seconds=0.01)
    client.v1.customers.create({})
    stripe_server.control.wait_until_settled(delivered=True)
    assert len(hooks.arrivals) == 2


def test_events_can_be_held_and_come_in_another_order(
    client: StripeClient, stripe_server: StripeServer, hooks: Hooks
) -> None:
    thin(client, hooks)
    stripe_server.control.hold_events()
    made = [client.v1.customers.create({}).id for _ in range(5)]
    stripe_server.control.wait_until_settled()
    assert hooks.arrivals == []
    assert stripe_server.control.release_events(order="reversed") == 5
    stripe_server.control.wait_until_settled()
    assert names(hooks) == made[::-1]
    stripe_server.control.hold_events()
    more = [client.v1.customers.create({}).id for _ in range(5)]
    stripe_server.control.release_events(order="shuffled", seed=3)
    stripe_server.control.wait_until_settled()
    assert sorted(names(hooks)[5:]) == sorted(more)
    assert names(hooks)[5:] != more


def test_some_types_can_be_held_alone(
    client: StripeClient, stripe_server: StripeServer, hooks: Hooks
) -> None:
    thin(client, hooks, "v1.payment_intent.succeeded", "v1.checkout.session.completed")
    stripe_server.control.hold_events(["checkout.session.completed"])
    session = top_up(client)
    stripe_server.control.pay_checkout(session.id)
    stripe_server.control.wait_until_settled()
    assert [name[:3] for name in names(hooks)] == ["pi_"]
    stripe_server.control.release_events()
    stripe_server.control.wait_until_settled()
    assert names(hooks)[1] == session.id


def test_events_can_come_twice(client: StripeClient, stripe_server: StripeServer, hooks: Hooks) -> None:
    thin(client, hooks)
    stripe_server.control.set_delivery(copies=2)
    made = client.v1.customers.create({}).id
    stripe_server.control.wait_until_settled()
    assert names(hooks) == [made, made]
    event = json.loads(hooks.arrivals[0].body)["id"]
    assert stripe_server.control.repeat_event(event) == 1
    stripe_server.control.wait_until_settled()
    assert names(hooks) == [made] * 3


async def test_what_stripe_never_sent_can_be_forged(stripe_server: StripeServer, hooks: Hooks) -> None:
    client = stripe_server.client()
    destination = thin(client, hooks)
    thing = {"object": "customer", "id": "cus_nobody"}
    forge = stripe_server.control.forge_event
    assert await forge("customer.created", thing, destination.id, account="acct_other", livemode=True) == 200
    forged = hooks.arrivals[0]
    notice: Any = client.parse_event_notification(forged.body, forged.signature, secret(destination))
    assert (notice.livemode, str(notice.context)) == (True, "acct_other")
    await forge("customer.created", thing, destination.id, secret="whsec_wrong")
    await forge("customer.created", thing, destination.id, signed_at=int(time.time()) - 301)
    for arrival in hooks.arrivals[1:]:
        with pytest.raises(stripe.SignatureVerificationError):
            client.parse_event_notification(arrival.body, arrival.signature, secret(destination))


def test_all_events_can_be_sent_to_a_place(
    client: StripeClient, stripe_server: StripeServer, hooks: Hooks
) -> None:
    made = stripe_server.control.send_events_to(hooks.url, secret="whsec_ours")
    whole = stripe_server.control.send_events_to(hooks.url, payload="snapshot")
    client.v1.customers.create({})
    stripe_server.control.wait_until_settled()
    notice, snapshot = hooks.arrivals
    assert made["secret"] == "whsec_ours"
    client.parse_event_notification(notice.body, notice.signature, "whsec_ours")
    client.construct_event(snapshot.body, snapshot.signature, whole["secret"])


async def test_a_notice_about_no_object_can_be_sent(stripe_server: StripeServer, hooks: Hooks) -> None:
    made = stripe_server.control.send_events_to(hooks.url)
    assert await stripe_server.control.forge_event("billing.meter.no_meter_found", {}, made["id"]) == 200
    (arrival,) = hooks.arrivals
    client = stripe_server.client()
    notice = client.parse_event_notification(arrival.body, arrival.signature, made["secret"])
    assert notice.type == "v1.billing.meter.no_meter_found"


async def test_deliveries_can_be_awaited_from_another_loop(stripe_server: StripeServer, hooks: Hooks) -> None:
    client = stripe_server.client()
    thin(client, hooks)
    client.v1.customers.create({})
    await stripe_server.control.settled()
    assert len(hooks.arrivals) == 1
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{stripe_server.url}/_control/settled", json={})
    assert answer.status_code == 200


def test_a_name_that_is_no_event_is_refused(client: StripeClient, hooks: Hooks) -> None:
    for name in ("customer.created", "v1.customer.invented"):
        with pytest.raises(stripe.InvalidRequestError):
            thin(client, hooks, name)


def test_a_destinations_secret_is_shown_to_who_asks_at_its_making(client: StripeClient, hooks: Hooks) -> None:
    made = thin(client, hooks)
    assert secret(made).startswith("whsec_")
    bare: Any = client.v2.core.event_destinations.retrieve(made.id)
    assert not hasattr(bare.webhook_endpoint, "url")
    shown: Any = client.v2.core.event_destinations.retrieve(made.id, {"include": ["webhook_endpoint.url"]})
    assert shown.webhook_endpoint.url == hooks.url
    assert [one.id for one in client.v2.core.event_destinations.list().data] == [made.id]
    client.v2.core.event_destinations.delete(made.id)
    assert client.v2.core.event_destinations.list().data == []


def test_events_of_v2_are_found_by_type_and_object(client: StripeClient) -> None:
    customer = client.v1.customers.create({})
    client.v1.products.create({"name": "Credit"})
    (event,) = client.v2.core.events.list({"object_id": customer.id}).data
    assert event.type == "v1.customer.created"
    assert len(client.v2.core.events.list({"types": ["v1.product.created"]}).data) == 1
    assert len(client.v1.events.list({"type": "product.created"}).data) == 1
