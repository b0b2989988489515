"""Sign-up, sign-in, verification and reset, through the services and the mailbox."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select, text, update

from farebox.auth import service, sessions, throttle
from farebox.auth.errors import (
    InvalidLink,
    SignUpClosed,
    TooManyAttempts,
    WrongCredentials,
)
from farebox.auth.models import EmailToken
from farebox.auth.passwords import PasswordHasher
from farebox.auth.tokens import digest_of
from farebox.billing.ledger import ledger_balance
from farebox.billing.welcome import WELCOME, give_welcome_credit
from farebox.core.database import Database
from farebox.core.errors import BadRequest
from farebox.core.outbox import OutboxItem
from farebox.core.settings import Settings
from farebox.tenants import members
from farebox.tenants.models import Organization, User
from tests.core.mailbox import Mailbox, deliver, link_in, text_of, token_in
from tests.owner import owner_transaction
from tests.tenants.factories import SETTINGS, an_address, an_email, make_account

PASSWORD = "correct horse battery"
OTHER = "a different password"


@dataclass
class Person:
    """Somebody with a mailbox, an IP address of their own and a mind to sign up."""

    database: Database
    passwords: PasswordHasher
    mailbox: Mailbox
    settings: Settings
    email: str = field(default_factory=an_email)
    address: str = field(default_factory=an_address)

    async def sign_up(self, password: str = PASSWORD, **changes: str) -> None:
        form = {"email": self.email, "password": password, "name": "Ada", "organization": "Acme"} | changes
        await service.sign_up(self.database, self.passwords, self.settings, **form, address=self.address)

    async def sign_in(self, password: str = PASSWORD, **changes: Any) -> str:
        form = {"email": self.email, "address": self.address} | changes
        opened = await service.sign_in(
            self.database, self.passwords, self.settings, password=password, **form
        )
        return opened.token

    async def verify(self, token: str, password: str = PASSWORD) -> str:
        opened = await service.verify_email(
            self.database, self.passwords, token=token, password=password, address=self.address
        )
        return opened.token

    async def ask_for_reset(self) -> None:
        await service.request_password_reset(self.database, email=self.email, address=self.address)

    async def reset(self, token: str, password: str = OTHER) -> None:
        await service.reset_password(self.database, self.passwords, token=token, password=password)

    async def mail(self) -> Any:
        """The newest mail, after what is due was sent; None if there was nothing to send."""
        before = len(self.mailbox.of(self.email))
        await deliver(self.database, self.settings, self.email)
        return self.mailbox.of(self.email)[-1] if len(self.mailbox.of(self.email)) > before else None

    async def user(self) -> User | None:
        async with self.database.transaction(email=self.email) as session:
            return await session.scalar(select(User).where(User.email == self.email))

    async def is_signed_in(self, token: str) -> bool:
        async with self.database.transaction(token_sha256=digest_of(token)) as session:
            return await sessions.lookup(session, token) is not None


@pytest.fixture
async def person(database: Database, passwords: PasswordHasher) -> AsyncIterator[Person]:
    async with Mailbox().open() as mailbox:
        settings = msgspec.structs.replace(SETTINGS, smtp_url=mailbox.url)
        yield Person(database, passwords, mailbox, settings)


@pytest.fixture
def customer(person: Person) -> Person:
    """A person at a Farebox in production."""
    person.settings = msgspec.structs.replace(
        person.settings, env="production", base_url="https://farebox.example"
    )
    return person


async def count_attempts(person: Person, attempts: int) -> None:
    """As if so many sign-ins had failed from the person's address."""
    for _ in range(attempts):
        async with person.database.transaction() as session:
            await throttle.count_attempt(session, throttle.ADDRESS, throttle.network_of(person.address))


async def organizations_of(person: Person) -> list[str]:
    user = await person.user()
    assert user is not None
    async with person.database.transaction(user_id=user.id) as session:
        return list(await session.scalars(select(Organization.name)))


async def test_a_newcomer_in_development_gets_in_at_once(person: Person) -> None:
    await person.sign_up()
    assert await person.is_signed_in(await person.sign_in())
    assert await organizations_of(person) == ["Acme"]


async def test_in_production_the_address_is_confirmed_first(customer: Person) -> None:
    await customer.sign_up()
    for password in (PASSWORD, OTHER):
        with pytest.raises(WrongCredentials):
            await customer.sign_in(password)
    message = await customer.mail()
    assert link_in(message).startswith("https://farebox.example/verify?token=")
    assert await customer.is_signed_in(await customer.verify(token_in(message)))
    assert await customer.is_signed_in(await customer.sign_in())
    with pytest.raises(InvalidLink):
        await customer.verify(token_in(message))


async def test_a_stranger_cannot_have_the_owner_of_a_mailbox_confirm_their_account(customer: Person) -> None:
    await customer.sign_up(password="the stranger's password")
    await customer.sign_up()  # now the owner of the address, who gets no second account
    link = token_in(await customer.mail())
    with pytest.raises(WrongCredentials):
        await customer.verify(link)
    user = await customer.user()
    assert user is not None
    assert user.email_verified_at is None
    await customer.ask_for_reset()
    await customer.reset(token_in(await customer.mail()))
    assert await customer.is_signed_in(await customer.sign_in(OTHER))
    with pytest.raises(WrongCredentials):
        await customer.sign_in("the stranger's password")


async def test_signing_up_again_changes_nothing_and_costs_the_same(person: Person) -> None:
    work = []
    for password, organization in ((PASSWORD, "First"), (OTHER, "Second")):
        before = person.passwords.performed
        await person.sign_up(password, organization=organization)
        work.append(person.passwords.performed - before)
        await person.mail()
    assert work == [1, 1]
    assert await organizations_of(person) == ["First"]
    assert await person.is_signed_in(await person.sign_in())
    with pytest.raises(WrongCredentials):
        await person.sign_in(OTHER)


async def test_a_confirmed_address_is_told_that_it_has_an_account(person: Person) -> None:
    await make_account(person.database, email=person.email)
    await person.sign_up(name="Visit https://evil.example", organization="https://evil.example")
    message = await person.mail()
    assert "already" in message["Subject"]
    assert "token" not in text_of(message)
    assert "evil" not in text_of(message)


async def test_simultaneous_sign_ups_make_one_account(person: Person) -> None:
    await asyncio.gather(*(person.sign_up(organization=name) for name in ("One", "Two", "Three")))
    assert len(await organizations_of(person)) == 1
    assert await person.is_signed_in(await person.sign_in())


async def test_sign_up_can_be_closed(person: Person) -> None:
    person.settings = msgspec.structs.replace(person.settings, sign_up="closed")
    with pytest.raises(SignUpClosed):
        await person.sign_up()
    assert await person.user() is None


@pytest.mark.parametrize(
    "changes",
    [
        {"password": "x" * 11},
        {"password": "x" * 129},
        {"email": "ada"},
        {"name": ""},
        {"organization": "\x00"},
    ],
    ids=str,
)
async def test_a_bad_form_is_refused_by_field(person: Person, changes: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as refusal:
        await person.sign_up(**changes)
    assert refusal.value.param == next(iter(changes))
    assert await person.user() is None


async def test_unknown_addresses_and_wrong_passwords_are_alike_in_words_and_work(person: Person) -> None:
    await person.sign_up()
    answers, work = [], []
    for changes in ({}, {"email": an_email()}):
        before = person.passwords.performed
        with pytest.raises(WrongCredentials) as refusal:
            await person.sign_in(OTHER, **changes)
        answers.append(refusal.value.envelope(None))
        work.append(person.passwords.performed - before)
    assert answers[0] == answers[1]
    assert work == [1, 1]


async def test_reset_requests_do_the_same_for_anybody(person: Person) -> None:
    await person.ask_for_reset()
    assert await person.mail() is None
    await person.sign_up()
    await person.mail()
    await person.ask_for_reset()
    assert link_in(await person.mail()).startswith(f"{person.settings.public_url}/reset?token=")


async def test_a_reset_ends_every_session_and_the_old_password(person: Person) -> None:
    await person.sign_up()
    await person.mail()
    signed_in = [await person.sign_in() for _ in range(2)]
    await person.ask_for_reset()
    token = token_in(await person.mail())
    await person.reset(token)
    assert [await person.is_signed_in(session) for session in signed_in] == [False, False]
    with pytest.raises(WrongCredentials):
        await person.sign_in()
    assert await person.is_signed_in(await person.sign_in(OTHER))
    with pytest.raises(InvalidLink):
        await person.reset(token, "yet another password")


async def test_of_two_links_the_second_dies_with_the_first(person: Person) -> None:
    await person.sign_up()
    await person.mail()
    tokens = []
    for _ in range(2):
        await person.ask_for_reset()
        tokens.append(token_in(await person.mail()))
    await person.reset(tokens[1])
    with pytest.raises(InvalidLink):
        await person.reset(tokens[0])


async def test_a_link_used_twice_at_once_works_once(person: Person) -> None:
    await person.sign_up()
    await person.mail()
    await person.ask_for_reset()
    token = token_in(await person.mail())
    outcomes = await asyncio.gather(
        *(person.reset(token, f"a new password {n}") for n in range(4)), return_exceptions=True
    )
    assert sorted(map(type, outcomes), key=str) == sorted([type(None)] + [InvalidLink] * 3, key=str)


async def test_links_expire_and_serve_one_purpose(person: Person) -> None:
    await person.sign_up()
    verification = token_in(await person.mail())
    with pytest.raises(InvalidLink):
        await person.reset(verification)
    user = await person.user()
    assert user is not None
    async with owner_transaction(person.database) as session:
        await session.execute(
            update(EmailToken).where(EmailToken.user_id == user.id).values(expires_at=func.now())
        )
    with pytest.raises(InvalidLink):
        await person.verify(verification)


async def test_a_made_up_link_costs_no_hash(person: Person) -> None:
    before = person.passwords.performed
    with pytest.raises(InvalidLink):
        await person.reset("made up")
    assert person.passwords.performed == before


async def test_no_secret_lies_in_the_outbox(person: Person) -> None:
    await person.sign_up()
    await person.ask_for_reset()
    user = await person.user()
    assert user is not None
    async with person.database.meter_transaction() as session:
        payloads = list(await session.scalars(select(OutboxItem.payload)))
    assert {"email": person.email} in payloads
    assert {"user_id": str(user.id)} in payloads


async def test_guessing_at_one_account_meets_the_back_off_from_anywhere(person: Person) -> None:
    await person.sign_up()
    guesses = await asyncio.gather(
        *(person.sign_in(f"guess number {n:02}", address=an_address()) for n in range(40)),
        return_exceptions=True,
    )
    looked_at = [guess for guess in guesses if isinstance(guess, WrongCredentials)]
    put_off = [guess for guess in guesses if isinstance(guess, TooManyAttempts)]
    assert len(looked_at) == throttle.ACCOUNT.free + 1
    assert len(put_off) == 40 - len(looked_at)
    with pytest.raises(TooManyAttempts) as refusal:
        await person.sign_in()
    assert refusal.value.headers["Retry-After"] == "1"


async def test_an_unknown_account_is_put_off_like_a_known_one(person: Person) -> None:
    for _ in range(throttle.ACCOUNT.free + 1):
        with pytest.raises(WrongCredentials):
            await person.sign_in(OTHER)
    with pytest.raises(TooManyAttempts):
        await person.sign_in(OTHER)


async def test_guessing_from_one_address_meets_the_back_off_whatever_the_account(person: Person) -> None:
    await count_attempts(person, throttle.ADDRESS.free)
    with pytest.raises(WrongCredentials):
        await person.sign_in(OTHER, email=an_email())
    with pytest.raises(TooManyAttempts):
        await person.sign_in(OTHER, email=an_email())


async def test_an_own_account_does_not_reset_the_address(person: Person) -> None:
    await person.sign_up()
    await count_attempts(person, throttle.ADDRESS.free - 1)
    await person.sign_in()
    with pytest.raises(WrongCredentials):
        await person.sign_in(OTHER, email=an_email())
    await person.sign_in()
    with pytest.raises(WrongCredentials):
        await person.sign_in(OTHER, email=an_email())
    with pytest.raises(TooManyAttempts):
        await person.sign_in()


async def test_the_right_password_clears_the_account(person: Person) -> None:
    await person.sign_up()
    for _ in range(3):
        for _ in range(throttle.ACCOUNT.free - 2):
            with pytest.raises(WrongCredentials):
                await person.sign_in(OTHER)
        await person.sign_in()


async def test_a_reset_lifts_the_back_off_of_the_account(person: Person) -> None:
    await person.sign_up()
    await person.mail()
    for _ in range(throttle.ACCOUNT.free + 1):
        with pytest.raises(WrongCredentials):
            await person.sign_in(OTHER)
    await person.ask_for_reset()
    await person.reset(token_in(await person.mail()))
    await person.sign_in(OTHER)


async def test_nobody_can_fill_a_mailbox(person: Person) -> None:
    for _ in range(throttle.MAILS.free + 1):
        await service.request_password_reset(person.database, email=person.email, address=an_address())
    with pytest.raises(TooManyAttempts):
        await service.request_password_reset(person.database, email=person.email, address=an_address())
    with pytest.raises(TooManyAttempts):
        await person.sign_up()


async def test_signing_in_ends_the_session_that_was_planted(person: Person) -> None:
    await person.sign_up()
    planted = await person.sign_in()
    token = await person.sign_in(replaces=planted)
    assert not await person.is_signed_in(planted)
    await service.sign_out(person.database, token)
    assert not await person.is_signed_in(token)


async def test_passwords_are_stored_hashed_only(person: Person) -> None:
    await person.sign_up()
    async with person.database.transaction(email=person.email) as session:
        row = await session.scalar(
            text("SELECT app_user::text FROM app_user WHERE email = :email"), {"email": person.email}
        )
    assert "$argon2id$" in str(row)
    assert PASSWORD not in str(row)


async def test_who_confirms_an_address_is_given_credit_once_if_the_operator_gives_any(
    customer: Person,
) -> None:
    await customer.sign_up()
    token = token_in(await customer.mail())
    await customer.verify(token)
    user = await customer.user()
    assert user is not None
    giving = msgspec.structs.replace(customer.settings, sign_up_credit="5.00", sign_up_credit_days=10)
    async with customer.database.meter_transaction() as session:
        (organization_id,) = await members.organizations_of(session, user.id)
        posted = select(OutboxItem.topic).where(OutboxItem.payload["user_id"].astext == str(user.id))
        assert WELCOME in set(await session.scalars(posted))
    for settings, balance in ((customer.settings, 0), (giving, 5), (giving, 5)):
        await give_welcome_credit(customer.database, settings, {"user_id": str(user.id)})
        async with customer.database.meter_transaction() as session:
            assert await ledger_balance(session, organization_id) == balance
