"""Signing keys: one at first, rotated without harm, retired everywhere, resealed."""

import asyncio
import base64
from datetime import timedelta

import msgspec
import pytest

from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.errors import Conflict, NotFound
from farebox.core.ids import new_id
from farebox.core.settings import Settings, SettingsError
from farebox.keys.errors import InvalidApiKey
from farebox.keys.jws import InvalidSignedStatement, read_jwks, read_statement
from farebox.keys.receipt_keys import ROOT_TYPE, SEAL_TYPE, ReceiptKeys
from farebox.keys.sealing import SecretBox, load_secret_box
from farebox.keys.signing import list_signing_keys, reseal, retire, rotate, thumbprint
from farebox.keys.tokens import Keyring
from tests.keys.forge import Forge
from tests.tenants.factories import SETTINGS
from tests.waiting import WAIT_SECONDS

BOX = load_secret_box(SETTINGS)


def mint(keyring: Keyring) -> str:
    return keyring.mint(
        key_id=new_id(),
        organization_id=new_id(),
        project_id=new_id(),
        subject="test",
        expires_at=utc_now() + timedelta(days=1),
    )


async def rotate_once(database: Database) -> str:
    async with database.transaction() as session:
        return (await rotate(session, BOX)).kid


async def retire_one(database: Database, kid: str) -> None:
    async with database.transaction() as session:
        await retire(session, kid)


def kids(keyring: Keyring) -> list[str]:
    return [jwk["kid"] for jwk in keyring.jwks()["keys"]]


async def test_replicas_that_start_together_agree_on_the_first_pair(own_database: Database) -> None:
    keyrings = await asyncio.gather(*(Keyring.load(own_database, SETTINGS) for _ in range(5)))
    assert len({tuple(kids(keyring)) for keyring in keyrings}) == 1
    assert len(kids(keyrings[0])) == 1
    keyrings[1].verify(mint(keyrings[0]))


async def test_the_key_set_is_public_only_and_named_by_thumbprint(own_database: Database) -> None:
    keyring = await Keyring.load(own_database, SETTINGS)
    for jwk in keyring.jwks()["keys"]:
        assert jwk.keys() == {"kty", "crv", "x", "kid", "use", "alg"}
        assert (jwk["kty"], jwk["crv"], jwk["use"], jwk["alg"]) == ("OKP", "Ed25519", "sig", "EdDSA")


def test_the_thumbprint_is_that_of_rfc_8037() -> None:
    x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    public = base64.urlsafe_b64decode(x + "=")
    assert thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


async def test_rotation_changes_the_signer_and_spares_the_keys_in_use(own_database: Database) -> None:
    here, elsewhere = [await Keyring.load(own_database, SETTINGS) for _ in range(2)]
    former = mint(here)
    kid = await rotate_once(own_database)
    await here.refresh()
    assert kids(here)[0] == kid
    present = mint(here)
    here.verify(former)
    with pytest.raises(InvalidApiKey):
        elsewhere.verify(present)
    assert (await elsewhere.resolve(present)) == here.verify(present), "it asks for the pair it has not met"
    elsewhere.verify(former)


async def test_forged_kids_share_one_look_at_the_database_per_second(own_database: Database) -> None:
    keyring = await Keyring.load(own_database, SETTINGS)
    forge = await Forge.open(own_database)
    forged = forge.token(forge.header(kid="unknown"), forge.claims())
    with pytest.raises(InvalidApiKey):
        await keyring.resolve(forged)
    await rotate_once(own_database)
    with pytest.raises(InvalidApiKey):
        await keyring.resolve(forged)
    assert kids(keyring)[0] == forge.kid, "the second look came too soon after the first"


async def test_a_retired_pair_verifies_nowhere_even_what_was_verified_before(own_database: Database) -> None:
    keyring = await Keyring.load(own_database, SETTINGS)
    former_kid, former = kids(keyring)[0], mint(keyring)
    keyring.verify(former)
    await rotate_once(own_database)
    await retire_one(own_database, former_kid)
    async with keyring.kept_fresh(every_seconds=0.01):
        async with asyncio.timeout(WAIT_SECONDS):
            while former_kid in kids(keyring):
                await Keyring.load(own_database, SETTINGS)  # another replica, as slow as the poll
    with pytest.raises(InvalidApiKey):
        keyring.verify(former)
    with pytest.raises(InvalidApiKey):
        await keyring.resolve(former)


async def test_the_pair_in_use_cannot_be_retired(own_database: Database) -> None:
    keyring = await Keyring.load(own_database, SETTINGS)
    with pytest.raises(Conflict):
        await retire_one(own_database, kids(keyring)[0])
    with pytest.raises(NotFound):
        await retire_one(own_database, "unknown")


async def test_retiring_twice_keeps_the_first_moment(own_database: Database) -> None:
    keyring = await Keyring.load(own_database, SETTINGS)
    kid = kids(keyring)[0]
    await rotate_once(own_database)
    moments = []
    for _ in range(2):
        await retire_one(own_database, kid)
        async with own_database.transaction() as session:
            moments += [row.retired_at for row in await list_signing_keys(session) if row.kid == kid]
    assert moments[0] is not None
    assert moments[0] == moments[1]


async def test_a_changed_secret_stops_the_start_until_the_keys_are_resealed(own_database: Database) -> None:
    token = mint(await Keyring.load(own_database, SETTINGS))
    changed = "another secret key of some length"
    other = Settings(secret_key=changed)
    with pytest.raises(SettingsError, match="FAREBOX_SECRET_KEY"):
        await Keyring.load(own_database, other)
    async with own_database.transaction() as session:
        assert (await reseal(session, BOX, SecretBox(changed))).anew >= 1
    (await Keyring.load(own_database, other)).verify(token)
    async with own_database.transaction() as session:
        await reseal(session, SecretBox(changed), BOX)


async def test_receipts_have_pairs_of_their_own(own_database: Database) -> None:
    keyring, receipts = (
        await Keyring.load(own_database, SETTINGS),
        await ReceiptKeys.load(own_database, SETTINGS),
    )
    api_keys, (first,) = kids(keyring), (jwk["kid"] for jwk in receipts.jwks())
    assert first not in api_keys
    before = receipts.sign_root(b"1")
    async with own_database.transaction() as session:
        second = (await rotate(session, BOX, "receipt")).kid
    await receipts.refresh()
    await keyring.refresh()
    assert [jwk["kid"] for jwk in receipts.jwks()] == [second, first], "the former one stays published"
    assert kids(keyring) == api_keys
    published = read_jwks(msgspec.json.encode({"keys": receipts.jwks()}))
    assert read_statement(before, published, typ=ROOT_TYPE) == b"1"
    assert read_statement(receipts.sign_seal(b"2"), published, typ=SEAL_TYPE) == b"2"
    with pytest.raises(InvalidSignedStatement, match="not as"):
        read_statement(before, published, typ=SEAL_TYPE)
    with pytest.raises(Conflict):
        await retire_one(own_database, second)
    await retire_one(own_database, first)
    await receipts.refresh()
    assert [jwk["kid"] for jwk in receipts.jwks()] == [second]
