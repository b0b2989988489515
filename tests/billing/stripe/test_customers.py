"""One customer at Stripe for each organization, whoever asks for it first, and however often."""

import pytest

from farebox.billing.stripe.customers import ensure_customer
from farebox.billing.stripe.errors import ProcessorAway
from tests.billing.stripe.shop import Shop


@pytest.mark.parametrize("path", ["/v1/customers", "/v1/customers/*"])
@pytest.mark.parametrize("email", ["second@example.com", None])
async def test_another_owner_may_go_on_where_an_answer_was_lost(
    shop: Shop, path: str, email: str | None
) -> None:
    shop.control.fail("lost_answer", method="POST", path=path)
    with pytest.raises(ProcessorAway):
        await ensure_customer(shop.database, shop.account, shop.organization_id, "first@example.com")
    made = await ensure_customer(shop.database, shop.account, shop.organization_id, email)
    mark = f"org_{shop.organization_id.hex}"
    customers = shop.control.things("customer")
    (customer,) = [each for each in customers if each["metadata"].get("farebox_organization") == mark]
    assert customer["id"] == made
    assert customer["name"]
    assert email in (customer["email"], None)
