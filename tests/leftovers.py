"""A run's temporary folder, and the guard that leaves nothing of it, however the run ends.

What a test starts may outlive it: Postgres is a daemon, `farebox up` a process of its own. The guard is
a process that holds the other end of a pipe; when the run has ended, also by `kill -9`, it ends the
processes that name the folder and removes that.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

PREFIX = "fbtests-"  # short: sockets lie in it, and their paths have a length limit
KEEP = b"keep"
END_SECONDS = 30


class TemporaryRoot:
    """A folder for all temporary files of this process and of those it starts.

    Each run has its own: a pytest that starts takes what is open to others away from the common one,
    the way of Postgres's user among it.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.gettempdir()) / f"{PREFIX}{os.getpid()}"
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(mode=0o711)
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "tests.leftovers", str(self.path)],
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C ends the run, not the guard
        )
        self._former = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.path)

    def close(self, *, keep: bool) -> None:
        """End what still runs in the folder; remove that unless it shall be kept, until the next run ends."""
        tempfile.tempdir = None
        os.environ.pop("TMPDIR")
        if self._former is not None:
            os.environ["TMPDIR"] = self._former
        self._guard.communicate(KEEP if keep else b"")


def end_processes(root: Path) -> None:
    """End all that has a path below `root` on its command line or as its working directory."""
    found = [process for process in psutil.process_iter() if _lives_in(process, root)]
    pids = {process.pid for process in found}
    for process in found:
        with contextlib.suppress(psutil.Error):
            if process.ppid() not in pids:  # a Postgres ends its own children
                process.terminate()
    for process in psutil.wait_procs(found, timeout=END_SECONDS)[1]:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _lives_in(process: psutil.Process, root: Path) -> bool:
    try:
        return process.pid != os.getpid() and any(
            f"{root}/" in place for place in (*process.cmdline(), f"{process.cwd()}/")
        )
    except psutil.Error:
        return False


def abandoned_roots(beside: Path) -> list[Path]:
    """Folders of runs that are over: kept after a failure, or left where the guard was killed, too."""
    folders = beside.parent.glob(f"{PREFIX}*")
    return [folder for folder in folders if folder != beside and not psutil.pid_exists(_pid_of(folder))]


def _pid_of(folder: Path) -> int:
    number = folder.name.removeprefix(PREFIX)
    return int(number) if number.isdecimal() else os.getpid()


def guard(root: Path) -> None:
    """Wait for the end of the run; then clear `root` and what earlier runs left beside it."""
    keep = sys.stdin.buffer.read() == KEEP
    end_processes(root)
    for folder in abandoned_roots(root) + [root] * (not keep):
        end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    guard(Path(sys.argv[1]))
