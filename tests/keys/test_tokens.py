"""What a token must be to verify, and all it must not be."""

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.ids import external, new_id
from farebox.keys.errors import InvalidApiKey
from farebox.keys.token_format import MAX_BYTES, PREFIX
from farebox.keys.tokens import Keyring
from tests.keys.forge import FAR_FUTURE, Forge, encode
from tests.tenants.factories import SETTINGS

Forgery = Callable[[Forge], str]


@pytest.fixture
async def forge(database: Database, keyring: Keyring) -> Forge:
    return await Forge.open(database)


def without(members: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in members.items() if key != name}


def twice(members: dict[str, Any], name: str, value: object) -> bytes:
    """A JSON object in which a member occurs a second time."""
    return f"{json.dumps(members)[:-1]}, {json.dumps(name)}: {json.dumps(value)}}}".encode()


def with_header(**changes: Any) -> Forgery:
    return lambda forge: forge.token(forge.header(**changes), forge.claims())


def with_claims(**changes: Any) -> Forgery:
    return lambda forge: forge.token(forge.header(), forge.claims(**changes))


def missing(claim: str) -> Forgery:
    return lambda forge: forge.token(forge.header(), without(forge.claims(), claim))


def respelled(change: Callable[[str], str]) -> Forgery:
    return lambda forge: change(forge.token(forge.header(), forge.claims()))


def hmac_with_the_public_key(forge: Forge) -> str:
    """The classic confusion of algorithms: the published key as a shared secret."""
    header, claims = forge.header(alg="HS256"), forge.claims()
    signed = ".".join(encode(json.dumps(part).encode()) for part in (header, claims))
    mac = hmac.digest(forge.private.public_key().public_bytes_raw(), signed.encode(), hashlib.sha256)
    return f"{PREFIX}{signed}.{encode(mac)}"


def unsigned(forge: Forge) -> str:
    return forge.token(forge.header(alg="none"), forge.claims()).rpartition(".")[0] + "."


def signed_by_a_stranger(forge: Forge) -> str:
    return Forge(forge.kid, Ed25519PrivateKey.generate()).token(forge.header(), forge.claims())


def sloppy_last_character(token: str) -> str:
    """The same signature, since the last character's low four bits carry nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


FORGERIES: dict[str, Forgery] = {
    "longer than 4 KB": with_claims(sub="user_" + "a" * MAX_BYTES),
    "five megabytes": lambda _: PREFIX + "a" * 5_000_000,
    "empty": lambda _: "",
    "only the prefix": lambda _: PREFIX,
    "no prefix": respelled(lambda token: token.removeprefix(PREFIX)),
    "another prefix": respelled(lambda token: token.replace("live", "test", 1)),
    "algorithm none": unsigned,
    "algorithm none with a signature": with_header(alg="none"),
    "HS256": hmac_with_the_public_key,
    "algorithm in lower case": with_header(alg="eddsa"),
    "no algorithm": lambda forge: forge.token(without(forge.header(), "alg"), forge.claims()),
    "a stranger's signature": signed_by_a_stranger,
    "type JWT": with_header(typ="JWT"),
    "type in upper case": with_header(typ="APIKEY+JWT"),
    "no type": lambda forge: forge.token(without(forge.header(), "typ"), forge.claims()),
    "unknown kid": with_header(kid="unknown"),
    "kid is a number": with_header(kid=1),
    "kid is a list": with_header(kid=["a"]),
    "kid is null": with_header(kid=None),
    "crit": with_header(crit=["exp"]),
    "b64": with_header(b64=False, crit=["b64"]),
    "a key of its own": with_header(jwk={"kty": "OKP", "crv": "Ed25519", "x": "AA"}),
    "a key's address": with_header(jku="https://example.com/jwks.json"),
    "kid twice": lambda forge: forge.token(twice(forge.header(), "kid", forge.kid), forge.claims()),
    "alg twice": lambda forge: forge.token(twice(forge.header(), "alg", "EdDSA"), forge.claims()),
    "exp twice": lambda forge: forge.token(forge.header(), twice(forge.claims(), "exp", FAR_FUTURE)),
    "org twice": lambda forge: forge.token(
        forge.header(), twice(forge.claims(), "org", external("org", new_id()))
    ),
    "another issuer": with_claims(iss="https://example.com"),
    "another audience": with_claims(aud="example"),
    "a list of audiences": with_claims(aud=["farebox"]),
    "expired": with_claims(exp=1_000_000_000),
    "exp in text": with_claims(exp=str(FAR_FUTURE)),
    "exp true": with_claims(exp=True),
    "exp a float": with_claims(exp=FAR_FUTURE + 0.5),
    "exp infinite": lambda forge: forge.token(
        forge.header(), json.dumps(forge.claims()).replace(str(FAR_FUTURE), "Infinity").encode()
    ),
    "exp null": with_claims(exp=None),
    "exp negative": with_claims(exp=-1),
    **{f"no {name}": missing(name) for name in ("iss", "aud", "sub", "jti", "org", "prj", "exp")},
    "one claim more": with_claims(admin=True),
    "jti of another kind": with_claims(jti=external("org", new_id())),
    "jti a number": with_claims(jti=1),
    "org not hexadecimal": with_claims(org="org_" + "z" * 32),
    "two segments": respelled(lambda token: token.rpartition(".")[0]),
    "four segments": respelled(lambda token: token + ".AA"),
    "a trailing dot": respelled(lambda token: token + "."),
    "a trailing newline": respelled(lambda token: token + "\n"),
    "a leading space": respelled(lambda token: " " + token),
    "padding": respelled(lambda token: token + "=="),
    "standard base64": respelled(lambda token: token[:-2] + "+/"),
    "sloppy base64": respelled(sloppy_last_character),
    "not ASCII": respelled(lambda token: token + "é"),
    "a lone surrogate": respelled(lambda token: token + "\ud800"),
    "a header that is no object": lambda forge: forge.token(b'["EdDSA"]', forge.claims()),
    "a deep header": lambda forge: forge.token(b"[" * 1500 + b"]" * 1500, forge.claims()),
    "a header in UTF-16": lambda forge: forge.token(
        json.dumps(forge.header()).encode("utf-16"), forge.claims()
    ),
    "a payload in UTF-16": lambda forge: forge.token(
        forge.header(), json.dumps(forge.claims()).encode("utf-16")
    ),
    "a payload that is no object": lambda forge: forge.token(forge.header(), b"[]"),
    "no JSON": lambda forge: forge.token(forge.header(), b"{"),
}


def test_the_forge_can_make_good_tokens_so_what_follows_means_something(
    keyring: Keyring, forge: Forge
) -> None:
    claims = keyring.verify(forge.token(forge.header(), forge.claims()))
    assert len(claims.digest) == 32


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forgery_is_refused_in_the_same_words(keyring: Keyring, forge: Forge, forgery: Forgery) -> None:
    with pytest.raises(InvalidApiKey) as refusal:
        keyring.verify(forgery(forge))
    assert refusal.value.envelope(None) == InvalidApiKey().envelope(None)
    assert keyring.cached_tokens == 0


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_mutation_of_a_token_verifies(keyring: Keyring, forge: Forge, data: st.DataObject) -> None:
    token = forge.token(forge.header(), forge.claims())
    start = data.draw(st.integers(0, len(token) - 1))
    end = data.draw(st.integers(start, min(len(token), start + 3)))
    mutant = token[:start] + data.draw(st.text(max_size=3)) + token[end:]
    if mutant != token:
        with pytest.raises(InvalidApiKey):
            keyring.verify(mutant)


async def test_a_verified_token_is_remembered_but_its_expiry_is_looked_at_again(database: Database) -> None:
    now = utc_now().timestamp()
    keyring = await Keyring.load(database, SETTINGS, clock=lambda: now)
    token = mint(keyring, lifetime=timedelta(hours=1))
    keyring.verify(token)
    assert keyring.cached_tokens == 1
    now += 3590
    assert keyring.verify(token) == keyring.verify(token)
    now += 20
    with pytest.raises(InvalidApiKey):
        keyring.verify(token)
    assert keyring.cached_tokens == 0


async def test_the_memory_of_verified_tokens_is_bounded(database: Database) -> None:
    keyring = await Keyring.load(database, SETTINGS, capacity=3)
    tokens = [mint(keyring) for _ in range(10)]
    for token in tokens:
        keyring.verify(token)
    assert keyring.cached_tokens == 3
    for token in tokens:
        keyring.verify(token)


def test_the_digest_is_that_of_the_whole_token(keyring: Keyring) -> None:
    token = mint(keyring)
    assert keyring.verify(token).digest == hashlib.sha256(token.encode()).digest()


def mint(keyring: Keyring, lifetime: timedelta = timedelta(days=1)) -> str:
    return keyring.mint(
        key_id=new_id(),
        organization_id=new_id(),
        project_id=new_id(),
        subject="test",
        expires_at=utc_now() + lifetime,
    )
