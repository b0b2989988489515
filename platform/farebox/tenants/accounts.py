"""People: made with the organization they found in one transaction, found, and changed."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.ids import new_id
from farebox.tenants.models import User
from farebox.tenants.organizations import create_organization


@dataclass(frozen=True, slots=True)
class NewAccount:
    """`is_new` is False when the address had an account already; then nothing was made or changed.

    `organization_id` and `project_id` are those of the new account, and void otherwise.
    """

    user_id: UUID
    organization_id: UUID
    project_id: UUID
    is_new: bool


async def create_account(
    session: AsyncSession,
    *,
    organization_id: UUID,
    email: str,
    password_hash: str,
    name: str,
    organization: str,
    verified: bool = False,
) -> NewAccount:
    """Make a user, an organization of theirs and its first project, unless the address is taken.

    The transaction must be that of `organization_id`, a fresh id, and of `email`. For a known address
    the same statements run and are rolled back to a savepoint: how long a sign-up takes must not tell
    whether somebody has an account.
    """
    user_id, is_new = await _add_user(session, email, password_hash, name, verified=verified)
    async with session.begin_nested() as savepoint:
        founded = await create_organization(
            session, organization_id=organization_id, name=organization, owner_id=user_id
        )
        if not is_new:
            await savepoint.rollback()
    return NewAccount(user_id, founded.organization_id, founded.project_id, is_new)


async def _add_user(
    session: AsyncSession, email: str, password_hash: str, name: str, *, verified: bool
) -> tuple[UUID, bool]:
    fresh = new_id()
    values = {
        "id": fresh,
        "email": email,
        "password_hash": password_hash,
        "name": name,
        "email_verified_at": func.now() if verified else None,
    }
    # The update changes nothing but returns the row in either case, and costs what the insert costs.
    upsert = (
        insert(User).values(values).on_conflict_do_update(index_elements=["email"], set_={"name": User.name})
    )
    user_id = (await session.execute(upsert.returning(User.id))).scalar_one()
    return user_id, user_id == fresh


async def find_user(session: AsyncSession, email: str) -> User | None:
    """The user of an address in its clean form, in a transaction of that address."""
    return await session.scalar(select(User).where(User.email == email))


async def get_user(session: AsyncSession, user_id: UUID) -> User | None:
    return await session.get(User, user_id)


async def keeps_password(session: AsyncSession, user: User) -> bool:
    """Whether the user's password is still the one that `user` was read with.

    Whoever would change it waits for the end of this transaction.
    """
    unchanged = (
        select(User.id)
        .where(User.id == user.id, User.password_hash == user.password_hash)
        .with_for_update(read=True)
    )
    return await session.scalar(unchanged) is not None


async def set_password(session: AsyncSession, user_id: UUID, password_hash: str) -> str:
    """Give a user another password; returns their address."""
    email: str = (
        await session.execute(
            update(User).where(User.id == user_id).values(password_hash=password_hash).returning(User.email)
        )
    ).scalar_one()
    return email


async def mark_verified(session: AsyncSession, user_id: UUID) -> bool:
    """Note that the user's address was proved; False where it is noted already."""
    marked = await session.scalar(
        update(User)
        .where(User.id == user_id, User.email_verified_at.is_(None))
        .values(email_verified_at=func.now())
        .returning(User.id)
    )
    return marked is not None
