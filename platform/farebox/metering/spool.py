"""What Postgres could not take, settlements and deliveries: on disk, fsynced, until it can."""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import msgspec
import structlog

from farebox.metering.settlement import Posting

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Posting).decode

log = structlog.get_logger(__name__)


class Spool:
    """An append-only file of postings, one JSON line each, owned by this process through a lock.

    All methods block; call them in a thread. A crash can leave a torn last line: its settlement had not been
    confirmed to anyone, so it is skipped. Of a request the last line counts. Whole lines that cannot be
    read, as of another version, are kept beside their file, with `.unreadable` behind its name, for the
    operator.

    Beside it lies what live requests have delivered since Postgres left, as postings in a file that is
    written anew each time: a process that dies leaves both. A settlement goes before a delivery of its
    request.
    """

    def __init__(self, directory: Path, owner: UUID) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self.path = directory / f"{owner.hex}.jsonl"
        self._deliveries = _deliveries_beside(self.path)
        self._descriptor = _open_own(self.path)
        _sync_directory(directory)

    def append(self, postings: Sequence[Posting]) -> None:
        """Write and fsync. Raises OSError when the disk does not take it: then nothing is promised."""
        data = b"".join(_encode(posting) + b"\n" for posting in postings)
        end = os.fstat(self._descriptor).st_size
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, end)
            raise

    def clear(self) -> None:
        """Forget everything; to be called once Postgres has confirmed what was appended."""
        os.ftruncate(self._descriptor, 0)
        os.fsync(self._descriptor)

    def note_deliveries(self, postings: Sequence[Posting]) -> None:
        """Write and fsync what live requests have delivered, in place of what was noted before.

        Raises OSError when the disk does not take it: then the former note stands.
        """
        if not postings:
            self._deliveries.unlink(missing_ok=True)
            return
        draft = _draft_of(self._deliveries)
        with draft.open("wb") as file:
            file.writelines(_encode(posting) + b"\n" for posting in postings)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._deliveries)
        _sync_directory(self._directory)

    def adopt(self) -> "list[LeftSpool]":
        """The spools that dead processes left, locked until the caller closes each.

        The caller replays the postings and removes each. A spool whose owner lives, or that another
        process is adopting, is locked and passed over.
        """
        found = []
        for path in sorted(self._directory.glob("*.jsonl")):
            if path == self.path:
                continue
            if (descriptor := _lock_left(path)) is not None:
                settled = {posting.request_id: posting for posting in _read(path)}
                deliveries = _deliveries_beside(path)
                delivered = _read(deliveries) if deliveries.exists() else []
                postings = {posting.request_id: posting for posting in delivered} | settled
                found.append(LeftSpool(path, list(postings.values()), descriptor))
        return found

    def close(self) -> None:
        """Release the lock; remove the file if nothing is left in it, nor noted beside it."""
        if os.fstat(self._descriptor).st_size == 0 and not self._deliveries.exists():
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


class LeftSpool(NamedTuple):
    """A spool that its owner left, and the descriptor that locks it."""

    path: Path
    postings: list[Posting]
    descriptor: int

    def remove(self) -> None:
        """Once Postgres has confirmed it. The path goes last: what lies beside is found by it."""
        deliveries = _deliveries_beside(self.path)
        for path in (deliveries, _draft_of(deliveries)):
            path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another process have it, if it is still there."""
        os.close(self.descriptor)


def _deliveries_beside(path: Path) -> Path:
    return path.with_suffix(".delivered")


def _draft_of(path: Path) -> Path:
    return path.with_suffix(".draft")


def _open_own(path: Path) -> int:
    """The file, locked. Before it is, another process may take it for one left behind and remove it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _lock_left(path: Path) -> int | None:
    """The file, locked; None when its owner lives, or another process has adopted it meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        left = os.fstat(descriptor).st_nlink > 0
    except BlockingIOError:
        left = False
    if left:
        return descriptor
    os.close(descriptor)
    return None


def _read(path: Path) -> list[Posting]:
    *lines, torn = path.read_bytes().split(b"\n")
    del torn
    postings, unreadable = [], []
    for line in lines:
        try:
            postings.append(_decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError):
            unreadable.append(line + b"\n")
    if unreadable:
        log.error("metering.spool_unreadable", path=str(path), lines=len(unreadable))
        with path.with_name(path.name + ".unreadable").open("wb") as file:
            file.writelines(unreadable)
            file.flush()
            os.fsync(file.fileno())
    return postings


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
