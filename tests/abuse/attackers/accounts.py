"""Attackers at the doors for people, from a new address each time: they have many."""

import secrets

from tests.abuse.attackers.tools import Attack, Attacker, an_address


async def guess(attack: Attack, _: int) -> None:
    await attack.send(
        "POST",
        "/auth/signin",
        json={"email": f"{secrets.token_hex(8)}@example.com", "password": "a password like others"},
        headers={"x-forwarded-for": an_address()},
    )


async def sign_up(attack: Attack, _: int) -> None:
    account = {
        "email": f"{secrets.token_hex(8)}@example.com",
        "password": "a password like others",
        "name": "Mallory",
        "organization": "Mallory's",
    }
    await attack.send("POST", "/auth/signup", json=account, headers={"x-forwarded-for": an_address()})


async def ask_reset(attack: Attack, _: int) -> None:
    await attack.send(
        "POST",
        "/auth/forgot",
        json={"email": f"{secrets.token_hex(8)}@example.com"},
        headers={"x-forwarded-for": an_address()},
    )


ATTACKERS = [
    Attacker("passwords-guessed", "sign-ins with wrong passwords, without a pause", 40, guess),
    Attacker("sign-ups", "accounts made without a pause", 16, sign_up),
    Attacker("resets", "password resets asked for without a pause", 16, ask_reset),
]
