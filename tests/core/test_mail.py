"""E-mail: what goes over the wire, and what happens where there is no wire."""

import smtplib
from dataclasses import replace

import msgspec
import pytest

from farebox.core.mail import Mail, send
from farebox.core.settings import Settings, SettingsError
from tests.core.mailbox import Mailbox, text_of
from tests.tenants.factories import SETTINGS

SENDER = "Farebox <f@example.com>"
MAIL = Mail("ada@example.com", "Grüße", "https://example.com/?token=" + "x" * 90)


async def test_a_mail_arrives_whole() -> None:
    async with Mailbox().open() as mailbox:
        settings = msgspec.structs.replace(
            SETTINGS, smtp_url=mailbox.url, mail_from="Farebox <f@example.com>"
        )
        await send(settings, MAIL)
    (message,) = mailbox.messages
    assert (message["To"], message["From"], message["Subject"]) == (
        MAIL.to,
        "Farebox <f@example.com>",
        "Grüße",
    )
    assert text_of(message).strip() == MAIL.text
    assert message["Message-ID"].endswith("@example.com>")


async def test_a_subject_cannot_smuggle_a_header() -> None:
    async with Mailbox().open() as mailbox:
        settings = msgspec.structs.replace(SETTINGS, smtp_url=mailbox.url)
        with pytest.raises(ValueError, match="linefeed or carriage return"):
            await send(settings, replace(MAIL, to="ada@example.com\r\nBcc: eve@example.com"))
    assert mailbox.messages == []


async def test_a_server_that_is_away_is_an_error_so_that_the_outbox_tries_again() -> None:
    with pytest.raises(OSError, match="refused"):
        await send(msgspec.structs.replace(SETTINGS, smtp_url="smtp://127.0.0.1:1"), MAIL)


async def test_a_bad_password_is_an_error() -> None:
    async with Mailbox().open() as mailbox:
        url = mailbox.url.replace("smtp://", "smtp://ada:p%40ss@")
        with pytest.raises(smtplib.SMTPNotSupportedError):
            await send(msgspec.structs.replace(SETTINGS, smtp_url=url), MAIL)


@pytest.mark.parametrize("url", ["https://example.com", "smtp://", "mail.example.com:25"])
async def test_a_malformed_setting_says_how_to_mend_it(url: str) -> None:
    with pytest.raises(SettingsError, match="smtps://"):
        await send(msgspec.structs.replace(SETTINGS, smtp_url=url), MAIL)


async def test_development_without_a_server_prints_the_link(capsys: pytest.CaptureFixture[str]) -> None:
    await send(SETTINGS, MAIL)
    printed = capsys.readouterr().err
    assert MAIL.text in printed
    assert MAIL.to in printed


async def test_production_without_a_server_keeps_the_mail_and_its_secret(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SettingsError, match="FAREBOX_SMTP_URL"):
        await send(Settings(env="production", secret_key="x" * 32), MAIL)
    assert "token" not in capsys.readouterr().err
