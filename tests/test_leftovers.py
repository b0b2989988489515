"""What a run of the tests leaves behind: nothing, or after a failure its files."""

import asyncio
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.waiting import until

RUN = """
import os, signal, subprocess, sys
from tests.leftovers import TemporaryRoot
root = TemporaryRoot()
child = subprocess.Popen(["sleep", "600"], cwd=root.path, stdout=subprocess.DEVNULL)
print(root.path, child.pid, flush=True)
"""
ENDS = {
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "passed": "root.close(keep=False)",
    "failed": "root.close(keep=True)",
}


def runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def is_there(path: Path) -> bool:
    return path.exists()


def run_to_its(end: str) -> tuple[Path, int]:
    """A run's folder, and a process that it started there."""
    command = [sys.executable, "-c", RUN + ENDS[end]]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    path, pid = run.stdout.split()
    return Path(path), int(pid)


@pytest.mark.parametrize("end", ENDS)
async def test_processes_end_with_the_run_and_files_do_unless_it_failed(end: str) -> None:
    path, pid = await asyncio.to_thread(run_to_its, end)
    await until(lambda: not runs(pid))
    if end == "failed":
        assert is_there(path)
    else:
        await until(lambda: not is_there(path))
