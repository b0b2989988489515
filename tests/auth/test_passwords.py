"""Password hashes, and a pool that says no rather than grow."""

import asyncio

import argon2
import pytest

from farebox.auth.passwords import PasswordHasher
from farebox.core.errors import Unavailable

PASSWORD = "correct horse battery"


async def test_hashes_are_argon2id_of_the_promised_strength_and_salted(passwords: PasswordHasher) -> None:
    first, second = await passwords.hash(PASSWORD), await passwords.hash(PASSWORD)
    assert first != second
    parameters = argon2.extract_parameters(first)
    assert (parameters.type, parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (
        argon2.Type.ID,
        19 * 1024,
        2,
        1,
    )


async def test_only_the_password_verifies(passwords: PasswordHasher) -> None:
    hashed = await passwords.hash(PASSWORD)
    assert await passwords.verify(hashed, PASSWORD)
    assert not await passwords.verify(hashed, PASSWORD + "!")


@pytest.mark.parametrize("password_hash", [None, "!", ""])
async def test_nobody_costs_what_somebody_costs_and_never_matches(
    passwords: PasswordHasher, password_hash: str | None
) -> None:
    before = passwords.performed
    assert not await passwords.verify(password_hash, PASSWORD)
    assert passwords.performed == before + 1


async def test_a_full_pool_refuses_at_once_and_recovers() -> None:
    passwords = PasswordHasher(threads=1, queue=2)
    outcomes = await asyncio.gather(*(passwords.hash(PASSWORD) for _ in range(6)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
    assert len(refused) == 3
    assert all(refusal.headers["Retry-After"] == "1" for refusal in refused)
    assert passwords.performed == 3
    assert await passwords.hash(PASSWORD)
    passwords.close()


async def test_who_leaves_the_queue_gives_the_place_back() -> None:
    passwords = PasswordHasher(threads=1, queue=1)
    running, waiting = [asyncio.create_task(passwords.hash(PASSWORD)) for _ in range(2)]
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await passwords.hash(PASSWORD)
    await running
    assert passwords.performed == 2
    passwords.close()
