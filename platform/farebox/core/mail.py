"""E-mail by SMTP; without a server, development prints it on the terminal."""

import asyncio
import smtplib
import ssl
import sys
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import SplitResult, unquote, urlsplit

from farebox.core.settings import Settings, SettingsError

TIMEOUT_SECONDS = 10.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Mail:
    """A message of plain text to one address."""

    to: str
    subject: str
    text: str


async def send(settings: Settings, mail: Mail) -> None:
    """Hand a mail to `settings.smtp_url`: `smtp://` (STARTTLS) or `smtps://`, `user:password@host:port`.

    Without that setting, development writes it to standard error and production raises SettingsError,
    so that it stays in the outbox until there is a server. Raises OSError or smtplib.SMTPException
    when the server does not take it. Never call this inside a transaction.
    """
    if settings.smtp_url:
        await asyncio.to_thread(_deliver, settings.smtp_url, _compose(settings.mail_from, mail))
    elif settings.production:
        raise SettingsError(
            "No e-mail can be sent: set FAREBOX_SMTP_URL, such as smtps://user:password@host."
        )
    else:
        sys.stderr.write(f"\nE-mail to {mail.to}: {mail.subject}\n\n{mail.text}\n\n")
        sys.stderr.flush()


def _compose(sender: str, mail: Mail) -> EmailMessage:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = mail.to
    message["Subject"] = mail.subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2].rstrip(">") or "localhost")
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notices, please
    message.set_content(mail.text)
    return message


def _deliver(url: str, message: EmailMessage) -> None:
    server = _parse(url)
    host = server.hostname or ""
    with _connect(server, host) as connection:
        if server.scheme == "smtp" and host not in _LOOPBACK:
            # Demanded, not merely tried: a man in the middle could strip the offer and read the links.
            connection.starttls(context=ssl.create_default_context())
        if server.username:
            connection.login(unquote(server.username), unquote(server.password or ""))
        connection.send_message(message)


def _connect(server: SplitResult, host: str) -> smtplib.SMTP:
    if server.scheme == "smtps":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(host, server.port or 465, timeout=TIMEOUT_SECONDS, context=context)
    return smtplib.SMTP(host, server.port or 587, timeout=TIMEOUT_SECONDS)


def _parse(url: str) -> SplitResult:
    server = urlsplit(url)
    if server.scheme not in ("smtp", "smtps") or not server.hostname:
        raise SettingsError("FAREBOX_SMTP_URL must look like smtps://user:password@host:port.")
    return server
