"""Password hashes, and a pool that says no rather than grow."""

import asyncio

import argon2
import pytest

from farebox.auth.passwords import PasswordHasher
from farebox.auth.throttle import network_of, site_of
from farebox.core.database import Database
from farebox.core.errors import Unavailable
from tests.auth.conftest import make_doors, visit
from tests.tenants.factories import an_email

PASSWORD = "correct horse battery"
ADA, BOB = "192.0.2.1", "192.0.2.2"


async def test_hashes_are_argon2id_of_the_promised_strength_and_salted(passwords: PasswordHasher) -> None:
    first, second = await passwords.hash(PASSWORD, asker=ADA), await passwords.hash(PASSWORD, asker=ADA)
    assert first != second
    parameters = argon2.extract_parameters(first)
    assert (parameters.type, parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (
        argon2.Type.ID,
        19 * 1024,
        2,
        1,
    )


async def test_only_the_password_verifies(passwords: PasswordHasher) -> None:
    hashed = await passwords.hash(PASSWORD, asker=ADA)
    assert await passwords.verify(hashed, PASSWORD, asker=ADA)
    assert not await passwords.verify(hashed, PASSWORD + "!", asker=ADA)


@pytest.mark.parametrize("password_hash", [None, "!", ""])
async def test_nobody_costs_what_somebody_costs_and_never_matches(
    passwords: PasswordHasher, password_hash: str | None
) -> None:
    before = passwords.performed
    assert not await passwords.verify(password_hash, PASSWORD, asker=ADA)
    assert passwords.performed == before + 1


async def test_a_full_pool_refuses_at_once_and_recovers() -> None:
    passwords = PasswordHasher(threads=1, queue=2)
    askers = (passwords.hash(PASSWORD, asker=asker) for asker in range(6))
    outcomes = await asyncio.gather(*askers, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
    assert len(refused) == 3
    assert all(refusal.headers["Retry-After"] == "1" for refusal in refused)
    assert passwords.performed == 3
    assert await passwords.hash(PASSWORD, asker=ADA)
    passwords.close()


async def test_one_asker_fills_a_quarter_of_the_places_and_goes_after_who_comes_later() -> None:
    passwords = PasswordHasher(threads=1, queue=15)
    done: list[str] = []

    async def sign_in(asker: str) -> None:
        await passwords.hash(PASSWORD, asker=asker)
        done.append(asker)

    outcomes = await asyncio.gather(*map(sign_in, [ADA] * 10 + [BOB]), return_exceptions=True)
    assert [isinstance(outcome, Unavailable) for outcome in outcomes] == [False] * 4 + [True] * 6 + [False]
    assert done.index(BOB) == 1
    assert done.count(ADA) == 4
    passwords.close()


async def test_one_site_of_many_networks_fills_half_of_the_places() -> None:
    passwords = PasswordHasher(threads=1, queue=7)
    crowd = [f"2001:db8:1:{number:x}::1" for number in range(20)]
    askers = [*crowd, "2001:db8:2::1", "203.0.113.7"]
    hashes = (passwords.hash(PASSWORD, asker=network_of(one), site=site_of(one)) for one in askers)
    outcomes = await asyncio.gather(*hashes, return_exceptions=True)
    refused = [isinstance(outcome, Unavailable) for outcome in outcomes]
    assert refused == [False] * 4 + [True] * 16 + [False] * 2
    again = "2001:db8:1:ff::1"
    assert await passwords.hash(PASSWORD, asker=network_of(again), site=site_of(again))
    passwords.close()


async def test_a_sign_in_counts_for_its_site(database: Database) -> None:
    """While networks of one site wait for more hashes than can be done meanwhile."""
    passwords = PasswordHasher(threads=1, queue=79)
    doors = make_doors(database, passwords)
    crowd = [f"2001:db8:3:{number:x}::1" for number in range(40)]
    hashes = [passwords.hash(PASSWORD, asker=network_of(one), site=site_of(one)) for one in crowd]
    waiting = [asyncio.create_task(each) for each in hashes]
    statuses = []
    for address in ("2001:db8:3:ff::1", "2001:db8:4::1"):
        async with visit(doors, address=address) as client:
            form = {"email": an_email(), "password": PASSWORD}
            statuses.append((await client.post("/auth/signin", json=form)).status_code)
            for task in waiting:
                task.cancel()
    assert statuses == [503, 401]
    await asyncio.gather(*waiting, return_exceptions=True)
    passwords.close()


async def test_who_leaves_the_queue_gives_the_place_back() -> None:
    passwords = PasswordHasher(threads=1, queue=1)
    tasks = [asyncio.create_task(passwords.hash(PASSWORD, asker=asker)) for asker in (ADA, BOB)]
    running, waiting = tasks
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await passwords.hash(PASSWORD, asker=BOB)
    await running
    assert passwords.performed == 2
    passwords.close()
