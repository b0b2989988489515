"""A mail server that keeps what it is sent, and the way there from the outbox."""

import asyncio
import email
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.policy import default

from sqlalchemy import delete, or_, select

from farebox.auth.tasks import HANDLERS
from farebox.core.database import Database
from farebox.core.outbox import OutboxItem
from farebox.core.settings import Settings
from farebox.tenants.models import User


class Mailbox:
    """Enough of RFC 5321 for `smtplib`, and a list of what arrived."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.url = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Mailbox"]:
        server = await asyncio.start_server(self._converse, "127.0.0.1", 0)
        self.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self

    def of(self, address: str) -> list[EmailMessage]:
        return [message for message in self.messages if message["To"] == address]

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mailbox\r\n")
        while line := await reader.readline():
            match line.split()[0].upper():
                case b"DATA":
                    writer.write(b"354 go on\r\n")
                    document = await reader.readuntil(b"\r\n.\r\n")
                    self.messages.append(email.message_from_bytes(document[:-5], policy=default))
                    writer.write(b"250 kept\r\n")
                case b"QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                case _:
                    writer.write(b"250 fine\r\n")
        writer.close()
        await writer.wait_closed()


async def deliver(database: Database, settings: Settings, address: str) -> int:
    """Do what the outbox holds for one address, as the worker would; returns how many mails were due."""
    async with database.meter_transaction() as session:
        user_id = await session.scalar(select(User.id).where(User.email == address))
        theirs = or_(
            OutboxItem.payload["email"].astext == address,
            OutboxItem.payload["user_id"].astext == str(user_id),
        )
        due = theirs & OutboxItem.topic.in_(HANDLERS)
        items = (await session.execute(select(OutboxItem.topic, OutboxItem.payload).where(due))).all()
        await session.execute(delete(OutboxItem).where(due))
    for topic, payload in items:
        await HANDLERS[topic](database, settings, payload)
    return len(items)


def link_in(message: EmailMessage) -> str:
    found = re.search(r"https?://\S+", text_of(message))
    assert found is not None
    return found[0]


def token_in(message: EmailMessage) -> str:
    return link_in(message).partition("token=")[2]


def text_of(message: EmailMessage) -> str:
    return str(message.get_content())
