"""The account that Postgres runs as under root, which it refuses to run as itself."""

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

ACCOUNT_NAME = "farebox-postgres"


class AccountError(Exception):
    """Root could not make the account; the message says what to do instead."""


@dataclass(frozen=True)
class Account:
    """A Unix user by number."""

    uid: int
    gid: int


def account_for(directory: Path) -> Account | None:
    """Whom Postgres runs as on `directory`: this process's user (None), or under root another."""
    if os.geteuid() != 0:
        return None
    if (directory / "PG_VERSION").exists() and (owner := directory.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    try:
        entry = pwd.getpwnam(ACCOUNT_NAME)
    except KeyError:
        entry = _make_user()
    return Account(entry.pw_uid, entry.pw_gid)


def admit(account: Account, directory: Path, binaries: Path) -> None:
    """Give `directory` to the account, and let it reach that and the binaries: traverse, not list."""
    shutil.chown(directory, account.uid, account.gid)
    for ancestor in (*directory.parents, *binaries.parents):
        _add_mode(ancestor, stat.S_IXOTH)
    if (binaries / "postgres").stat().st_mode & stat.S_IXOTH:
        return
    # The wheel was unpacked under a strict umask.
    for folder, _, files in os.walk(binaries.parent):
        _add_mode(Path(folder), stat.S_IROTH | stat.S_IXOTH)
        for name in files:
            path = Path(folder, name)
            _add_mode(path, stat.S_IROTH | (stat.S_IXOTH if path.stat().st_mode & stat.S_IXUSR else 0))


def _add_mode(path: Path, bits: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits != bits:
        path.chmod(mode | bits)


def _make_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--no-create-home", "--user-group", ACCOUNT_NAME]
    try:
        # Another process may be making it at the same moment: what counts is that it exists.
        subprocess.run(command, capture_output=True, check=False)  # noqa: S603  constant arguments
        return pwd.getpwnam(ACCOUNT_NAME)
    except (OSError, KeyError):
        raise AccountError(
            f"Postgres does not run as root, and no user {ACCOUNT_NAME!r} could be made for it. Start Farebox"
            " as another user, or set FAREBOX_DATABASE_URL."
        ) from None
