"""`/auth/…` over HTTP: cookies, identical answers, forged requests."""

from httpx import AsyncClient

from tests.tenants.factories import an_email

PASSWORD = "correct horse battery"


async def sign_up(client: AsyncClient, email: str) -> None:
    response = await client.post(
        "/auth/signup",
        json={"email": email, "password": PASSWORD, "name": "Ada", "organization": "Acme"},
    )
    assert response.status_code == 202, response.text


async def test_a_newcomer_signs_up_in_and_out(client: AsyncClient) -> None:
    email = an_email()
    await sign_up(client, email)
    signed_in = await client.post("/auth/signin", json={"email": email, "password": PASSWORD})
    assert signed_in.status_code == 200, signed_in.text
    session = (await client.get("/auth/session")).json()
    assert session["email"] == email
    assert session["role"] == "owner"
    refused = await client.post("/auth/signout")
    assert refused.status_code == 403
    left = await client.post("/auth/signout", headers={"X-CSRF-Token": session["csrf_token"]})
    assert left.status_code == 204
    assert (await client.get("/auth/session")).status_code == 401
