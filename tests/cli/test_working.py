"""`farebox worker` as a process: it does what the outbox holds, and ends in an orderly way."""

from sqlalchemy import text, update

from farebox.auth.service import MAIL_RESET
from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.outbox import OutboxItem, post
from farebox.worker import MAX_ATTEMPTS
from tests.cli.commands import Farebox
from tests.cli.processes import running
from tests.core.mailbox import Mailbox
from tests.tenants.factories import make_account
from tests.waiting import eventually


async def test_what_was_given_up_is_tried_again_on_request(shop: Farebox, shop_database: Database) -> None:
    address = f"{new_id().hex}@example.com"
    await make_account(shop_database, email=address)
    given_up = {"attempts": MAX_ATTEMPTS, "next_attempt_at": text("'infinity'::timestamptz")}
    async with shop_database.meter_transaction() as session:
        await post(session, MAIL_RESET, {"email": address})
        await session.execute(update(OutboxItem).values(**given_up))
    async with Mailbox().open() as mailbox:

        async def has_arrived() -> bool:
            return bool(mailbox.of(address))

        sending = shop.set(smtp_url=mailbox.url)
        async with running(sending, "worker", "--retry", until="The worker is running"):
            await eventually(has_arrived)


async def test_the_worker_sends_mails_until_it_is_stopped(shop: Farebox, shop_database: Database) -> None:
    address = f"{new_id().hex}@example.com"
    await make_account(shop_database, email=address)
    async with Mailbox().open() as mailbox:
        sending = shop.set(smtp_url=mailbox.url)
        async with running(sending, "worker", until="The worker is running") as worker:
            async with shop_database.transaction() as session:
                await post(session, MAIL_RESET, {"email": address})

            async def has_arrived() -> bool:
                return bool(mailbox.of(address))

            await eventually(has_arrived)
            assert await worker.stop() == 0
    assert "Traceback" not in worker.log.read_text()
