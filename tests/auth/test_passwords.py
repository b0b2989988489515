"""Password hashes, and a pool that says no rather than grow."""

import asyncio

import argon2
import pytest

from farebox.auth import throttle
from farebox.auth.models import SignInThrottle
from farebox.auth.passwords import PasswordHasher
from farebox.auth.throttle import networks_of
from farebox.auth.waiting_room import Path
from farebox.core.database import Database
from farebox.core.errors import Unavailable
from tests.auth.conftest import make_doors, visit
from tests.tenants.factories import an_address, an_email
from tests.waiting import WAIT_SECONDS

PASSWORD = "correct horse battery"
ADA, BOB = networks_of("192.0.2.1"), networks_of("198.51.100.2")


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
    askers = (passwords.hash(PASSWORD, asker=(number, number, number)) for number in range(6))
    outcomes = await asyncio.gather(*askers, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
    assert len(refused) == 3
    assert all(refusal.headers["Retry-After"] == "1" for refusal in refused)
    assert passwords.performed == 3
    assert await passwords.hash(PASSWORD, asker=ADA)
    passwords.close()


async def test_who_comes_later_goes_ahead_of_who_had_many() -> None:
    passwords = PasswordHasher(threads=1, queue=15)
    done: list[str] = []

    async def sign_in(name: str, asker: Path) -> None:
        await passwords.hash(PASSWORD, asker=asker)
        done.append(name)

    await asyncio.gather(*(sign_in("Ada", ADA) for _ in range(10)), sign_in("Bob", BOB))
    assert done.index("Bob") == 1
    passwords.close()


async def test_a_sign_in_counts_for_its_site_and_its_provider(database: Database) -> None:
    """While networks of two sites fill the places: whoever else comes, also of their provider, has one."""
    passwords = PasswordHasher(threads=1, queue=20)
    doors = make_doors(database, passwords)
    crowd = [f"2a00:8:{3 + number % 2}:{number:x}::1" for number in range(21)]
    hashes = [passwords.hash(PASSWORD, asker=networks_of(one)) for one in crowd]
    waiting = [asyncio.create_task(each) for each in hashes]
    await asyncio.sleep(0)
    statuses = []
    for address in ("2a00:8:5::1", "2a00:9::1"):
        async with visit(doors, address=address) as client:
            form = {"email": an_email(), "password": PASSWORD}
            statuses.append((await client.post("/auth/signin", json=form)).status_code)
    assert statuses == [401, 401]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(each, Unavailable) for each in outcomes].count(True) <= 2
    passwords.close()


@pytest.mark.parametrize("path", ["/auth/signin", "/auth/signup"])
async def test_who_finds_no_place_is_told_so_before_anything_is_done(path: str, database: Database) -> None:
    """Nothing is counted either: nobody has guessed."""
    passwords = PasswordHasher(threads=1, queue=1, rest=WAIT_SECONDS, patience=0)
    doors, address = make_doors(database, passwords), an_address()
    # One has the turn, and the room rests after that; one waits.
    await passwords.hash(PASSWORD, asker=ADA)
    waiting = asyncio.create_task(passwords.hash(PASSWORD, asker=ADA))
    await asyncio.sleep(0)
    form = {"email": an_email(), "password": PASSWORD}
    if path == "/auth/signup":
        form |= {"name": "Carol", "organization": "Carol's"}
    async with visit(doors, address=address) as client:
        answer = await client.post(path, json=form)
    assert answer.status_code == 503
    async with database.transaction() as session:
        for backoff in (throttle.ADDRESS, throttle.REQUESTS):
            subject = backoff.subject(throttle.network_of(address))
            assert await session.get(SignInThrottle, subject) is None
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
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
