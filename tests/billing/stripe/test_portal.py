"""Stripe's page for payment methods, invoices and tax ids: one configuration, which cancels nothing."""

import httpx

from tests.billing.stripe.shop import Shop
from tests.billing.stripe.test_api import caller
from tests.gateway.servers import RunningServer


async def test_the_portal_is_opened_for_the_own_customer_and_cancels_nothing(
    shop: Shop, site: RunningServer
) -> None:
    async with caller(site, shop.tenant.api_key) as client:
        answers: list[httpx.Response] = [
            await client.post("/v1/organization/billing_portal") for _ in range(2)
        ]
    assert [answer.status_code for answer in answers] == [201, 201]
    sessions = shop.control.things("billing_portal.session")
    assert answers[0].json()["url"] in {each["url"] for each in sessions}
    customers = {each["id"]: each for each in shop.control.things("customer")}
    owners = {customers[each["customer"]]["metadata"]["farebox_organization"] for each in sessions[-2:]}
    assert owners == {f"org_{shop.organization_id.hex}"}
    (configuration,) = [
        each
        for each in shop.control.things("billing_portal.configuration")
        if each["metadata"].get("farebox") == "portal"
    ]
    features = configuration["features"]
    assert features["payment_method_update"]["enabled"]
    assert not features["subscription_cancel"]["enabled"]
    assert not features["subscription_update"]["enabled"]
