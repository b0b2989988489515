"""/v1/organization/top_ups, auto_top_up and billing_portal over HTTP, as customers' programs call them."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from farebox.core.database import Database
from farebox.core.ids import external, new_id
from farebox.core.settings import Settings
from farebox.keys.tokens import Keyring
from farebox.tenants.models import Membership
from tests.billing.stripe.shop import Shop
from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.owner import owner_transaction
from tests.tenants.factories import Tenant, make_key, make_tenant

TOP_UPS, AUTO = "/v1/organization/top_ups", "/v1/organization/auto_top_up"


def caller(site: RunningServer, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=site.url, headers={"authorization": f"Bearer {key}"}, timeout=60)


@pytest.fixture
async def api(shop: Shop, site: RunningServer) -> AsyncIterator[httpx.AsyncClient]:
    """Called by the customer's owner."""
    async with caller(site, shop.tenant.api_key) as client:
        yield client


async def test_a_top_up_is_ordered_paid_and_seen(shop: Shop, api: httpx.AsyncClient) -> None:
    answer = await api.post(TOP_UPS, json={"amount": "25.00", "save_payment_method": True})
    assert answer.status_code == 201
    made = answer.json()
    assert made["id"].startswith("topup_")
    assert (made["object"], made["state"], made["amount"]) == ("organization.top_up", "open", "25.00")
    assert (made["currency"], made["kind"]) == ("usd", "checkout")
    assert "2500 usd" in (await api.get(made["url"])).text
    await api.post(made["url"], data={"action": "pay"})
    await shop.work()
    paid = (await api.get(f"{TOP_UPS}/{made['id']}")).json()
    assert (paid["state"], paid["url"]) == ("paid", None)
    assert paid["paid_at"] is not None


async def test_top_ups_are_listed_in_pages_newest_first(api: httpx.AsyncClient) -> None:
    ids = [(await api.post(TOP_UPS, json={"amount": f"{n}.00"})).json()["id"] for n in (10, 11, 12)]
    first = (await api.get(TOP_UPS, params={"limit": 2})).json()
    assert [each["id"] for each in first["data"]] == ids[:0:-1]
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, ids[2], ids[1])
    rest = (await api.get(TOP_UPS, params={"limit": 2, "after": first["last_id"]})).json()
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == (ids[:1], False)


async def test_a_clients_key_makes_one_top_up(api: httpx.AsyncClient) -> None:
    async def order(amount: str, key: str) -> httpx.Response:
        return await api.post(TOP_UPS, json={"amount": amount}, headers={"idempotency-key": key})

    first, again = await order("25", "a"), await order("25", "a")
    assert first.json() == again.json()
    assert (await order("25", "b")).json()["id"] != first.json()["id"]
    refused = await order("26", "a")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "idempotency_key_reused")
    assert (await order("25", "x" * 256)).status_code == 400


BAD = [
    ({"amount": "1e3"}, "amount"),
    ({"amount": "25,00"}, "amount"),
    ({"amount": "1"}, None),
    ({"amount": 25}, "amount"),
    ({}, "amount"),
    ({"amount": "25", "colour": 1}, "colour"),
]


@pytest.mark.parametrize(("body", "param"), BAD, ids=lambda value: str(value))
async def test_bad_orders_are_refused_with_a_sentence(
    api: httpx.AsyncClient, body: dict[str, Any], param: str | None
) -> None:
    answer = await api.post(TOP_UPS, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_a_foreign_id_is_as_an_absent_one(
    shop: Shop, api: httpx.AsyncClient, database: Database, keyring: Keyring, site: RunningServer
) -> None:
    own = (await api.post(TOP_UPS, json={"amount": "25"})).json()["id"]
    stranger = await make_tenant(database, keyring)
    async with caller(site, stranger.api_key) as other:
        answers = [
            await other.get(f"{TOP_UPS}/{name}")
            for name in (own, external("topup", new_id()), "topup_1", external("org", new_id()))
        ]
        assert (await other.get(TOP_UPS)).json()["data"] == []
        assert (await other.get(TOP_UPS, params={"after": own})).status_code == 404
    said = [(answer.status_code, answer.json()["error"]["message"]) for answer in answers]
    assert said == [(404, "No such top-up.")] * 4


async def test_the_payment_and_its_credit_are_the_own_organizations(
    shop: Shop, database: Database, keyring: Keyring
) -> None:
    stranger = await make_tenant(database, keyring)
    row = await shop.order("25", organization_id=stranger.organization_id)
    shop.pay(row)
    await shop.work()
    assert await shop.balance() == 0
    shop.tenant = stranger
    assert await shop.balance() == 25


async def member_key(database: Database, keyring: Keyring, tenant: Tenant, role: str) -> str:
    """A key of the organization's only person, who is no owner any more."""
    async with owner_transaction(database) as session:
        membership = await session.get_one(Membership, (tenant.organization_id, tenant.user_id))
        membership.role = role
    return (await make_key(database, keyring, tenant)).token


@pytest.mark.parametrize("role", ["admin", "member"])
async def test_only_an_owner_pays(
    shop: Shop, database: Database, keyring: Keyring, site: RunningServer, role: str
) -> None:
    key = await member_key(database, keyring, shop.tenant, role)
    async with caller(site, key) as client:
        for method, path in (
            ("GET", TOP_UPS),
            ("POST", TOP_UPS),
            ("GET", AUTO),
            ("POST", AUTO),
            ("POST", "/v1/organization/billing_portal"),
        ):
            auto = {"enabled": True, "threshold": "5", "monthly_ceiling": "100"}
            body: Any = {"amount": "25"} | (auto if path == AUTO else {})
            answer = await client.request(method, path, json=None if method == "GET" else body)
            code = "not_an_owner" if role == "admin" else "insufficient_scope"
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, code), path


async def test_an_inference_key_does_not_pay(
    shop: Shop, database: Database, keyring: Keyring, site: RunningServer
) -> None:
    key = (await make_key(database, keyring, shop.tenant, scopes=["inference"])).token
    async with caller(site, key) as client:
        assert (await client.get(TOP_UPS)).status_code == 403
    async with httpx.AsyncClient(base_url=site.url) as nobody:
        assert (await nobody.get(TOP_UPS)).status_code == 401


async def test_automatic_top_up_is_read_and_set(shop: Shop, api: httpx.AsyncClient) -> None:
    before = (await api.get(AUTO)).json()
    assert (before["enabled"], before["amount"], before["spent_this_month"]) == (False, None, "0.00")
    wanted = {"enabled": True, "threshold": "5", "amount": "20", "monthly_ceiling": "100"}
    saved = (await api.post(AUTO, json=wanted)).json()
    assert (saved["threshold"], saved["monthly_ceiling"], saved["paused"]) == ("5.00", "100.00", None)
    assert (await api.get(AUTO)).json() == saved
    refused = await api.post(AUTO, json=wanted | {"monthly_ceiling": "19"})
    assert refused.status_code == 400


async def test_stripe_away_is_a_503_and_the_next_try_gets_the_same_top_up(
    shop: Shop, api: httpx.AsyncClient
) -> None:
    shop.control.fail("server_error", method="POST", path="/v1/checkout/sessions")
    answer = await api.post(TOP_UPS, json={"amount": "25"})
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    made = (await api.post(TOP_UPS, json={"amount": "25"})).json()
    assert [made["id"]] == [each["id"] for each in (await api.get(TOP_UPS)).json()["data"]]


@pytest.fixture(scope="module")
def site_without(
    shop_settings: Settings, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A Farebox that takes no payments."""
    settings: Settings = make_settings(tmp_path_factory.mktemp("without"), base_url=shop_settings.base_url)
    thread = ServerThread(settings, database_url)
    yield thread.start()
    thread.stop()


async def test_without_a_key_all_else_works_and_these_are_absent(
    shop: Shop, site_without: RunningServer
) -> None:
    async with caller(site_without, shop.tenant.api_key) as client:
        assert (await client.get("/v1/models")).status_code == 200
        answers = [
            await client.get(TOP_UPS),
            await client.post(TOP_UPS, json={"amount": "25"}),
            await client.get(AUTO),
            await client.post("/v1/organization/billing_portal"),
            await client.post("/webhooks/stripe", content=b"{}"),
        ]
    assert {(each.status_code, each.json()["error"]["code"]) for each in answers} == {(404, "payments_off")}
