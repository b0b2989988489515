"""`farebox keys reseal`: another secret, and no API key is lost."""

from pathlib import Path

import pytest

from farebox.core.database import Database
from farebox.core.settings import Settings, SettingsError
from farebox.keys.service import authenticate
from farebox.keys.tokens import Keyring
from tests.cli.commands import Farebox, shell
from tests.cli.conftest import MakeDatabase

FIRST, SECOND, THIRD = ("1" * 40, "2" * 40, "3" * 40)


@pytest.fixture
async def url(make_database: MakeDatabase) -> str:
    return await make_database()


@pytest.fixture
def sealed(url: str, tmp_path: Path) -> Farebox:
    """Two pairs sealed with the first secret."""
    sealed = shell(tmp_path, url).set(secret_key=FIRST)
    sealed.json("migrate")
    sealed.json("keys", "rotate")
    sealed.json("keys", "rotate")
    return sealed


async def opens(url: str, secret: str, token: str | None = None) -> bool:
    """Whether a server with this secret starts; and knows `token`."""
    database = Database(url)
    try:
        keyring = await Keyring.load(database, Settings(secret_key=secret))
        if token is not None:
            await authenticate(database, await keyring.resolve(token))
    except SettingsError:
        return False
    finally:
        await database.close()
    return True


async def test_the_new_secret_opens_and_the_former_no_longer(sealed: Farebox, url: str) -> None:
    organization = sealed.json("org", "create", "Acme")["organization_id"]
    token = sealed.json("key", "create", "--organization", organization)["api_key"]
    answer = sealed.set(secret_key=SECOND, former_secret_key=FIRST).run("keys", "reseal")
    assert answer.status == 0
    assert "sealed anew: 2" in answer.out
    assert "Start the servers with the new FAREBOX_SECRET_KEY" in answer.out
    assert FIRST not in answer.out + answer.err
    assert await opens(url, SECOND, token)
    assert not await opens(url, FIRST)
    again = sealed.set(secret_key=SECOND, former_secret_key=FIRST)
    assert again.json("keys", "reseal") == {"anew": 0, "lost": 0}
    assert "already; nothing was changed" in again.run("keys", "reseal").out


async def test_a_wrong_former_secret_changes_nothing(sealed: Farebox, url: str) -> None:
    refusal = sealed.set(secret_key=SECOND, former_secret_key=THIRD).run("keys", "reseal").refusal
    assert "The former secret does not open the signing keys" in refusal
    assert "Nothing was changed" in refusal
    assert await opens(url, FIRST)


async def test_a_pair_that_fails_half_way_leaves_all_as_they_were(sealed: Farebox, url: str) -> None:
    """The newer pair signs and is sealed with another secret: the older one must not be resealed alone."""
    sealed.set(secret_key=THIRD).json("keys", "rotate")
    assert "Nothing was changed" in (
        sealed.set(secret_key=SECOND, former_secret_key=FIRST).run("keys", "reseal").refusal
    )
    assert await opens(url, THIRD)
    assert sealed.set(secret_key=THIRD, former_secret_key=FIRST).json("keys", "reseal") == {
        "anew": 2,
        "lost": 0,
    }


async def test_pairs_lost_with_an_earlier_secret_do_not_stand_in_the_way(sealed: Farebox, url: str) -> None:
    """The first secret was lost and the pair rotated, as docs/adr/0004 says; now the secret changes again."""
    sealed.set(secret_key=SECOND).json("keys", "rotate")
    change = sealed.set(secret_key=THIRD, former_secret_key=SECOND)
    assert change.json("keys", "reseal") == {"anew": 1, "lost": 2}
    assert await opens(url, THIRD)
    assert (
        "does not open"
        in sealed.set(secret_key=FIRST * 2, former_secret_key="4" * 40).run("keys", "reseal").refusal
    )


@pytest.mark.parametrize("former", [None, ""])
def test_without_the_former_secret_it_says_where_to_put_it(former: str | None, tmp_path: Path) -> None:
    refusal = shell(tmp_path).set(former_secret_key=former).run("keys", "reseal").refusal
    assert "Set FAREBOX_FORMER_SECRET_KEY to the secret that the signing keys are sealed with now" in refusal
    assert str(tmp_path / "data" / "secret.key") in refusal


def test_a_server_does_not_start_with_the_former_secret_about(sealed: Farebox) -> None:
    assert "FAREBOX_FORMER_SECRET_KEY" in sealed.set(former_secret_key=SECOND).run("serve").refusal
