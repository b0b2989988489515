"""Cleans up after a run that was killed: stops its Postgres and removes its directory.

`python -m tests.abuse.keeper DIRECTORY` waits until its standard input ends, which it does with its parent.
A run that ended in an orderly way has left nothing to do.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

POSTGRES = "postgres"
STOP_SECONDS = 60.0


@contextmanager
def kept(directory: Path) -> Iterator[None]:
    """Have `directory` cleaned up, whatever becomes of this process. Ctrl-C does not reach the keeper."""
    keeper = subprocess.Popen(  # noqa: S603  ourselves
        [sys.executable, "-m", "tests.abuse.keeper", str(directory)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        if keeper.stdin is not None:
            keeper.stdin.close()
        keeper.wait(STOP_SECONDS)


def clean_up(directory: Path) -> None:
    """Stop the Postgres in `directory` if it runs, and remove everything."""
    pid_file = directory / POSTGRES / "postmaster.pid"
    if pid_file.exists():
        try:
            process = psutil.Process(int(pid_file.read_text().split()[0]))
            if process.name() == "postgres" and str(directory) in " ".join(process.cmdline()):
                process.send_signal(signal.SIGINT)  # the fast way: sessions are ended
                process.wait(STOP_SECONDS)
        except (ValueError, IndexError, psutil.Error):
            pass
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    clean_up(Path(sys.argv[1]))
