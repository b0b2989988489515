"""`make test`: the suite in two halves side by side, since each alone keeps one core busy at most.

One mostly computes; the other starts servers and waits for them. Lines are shown as they come, with the half
they belong to before them. Exits with 1 if either half failed.
"""

import asyncio
import getpass
import os
import sys
import tempfile
from pathlib import Path

COMPUTING = ["tests/engine", "tests/training", "tests/metering", "tests/core"]
HALVES = {
    "computing": COMPUTING,
    "serving": ["tests", *(f"--ignore={folder}" for folder in COMPUTING)],
}


async def run_half(name: str, arguments: list[str]) -> int:
    """Run one half, showing what it says; returns its exit status."""
    command = [sys.executable, "-m", "pytest", "-m", "not chaos and not slow", *arguments]
    # Apart from the other's: a starting pytest closes what it has in common with one that runs to others,
    # the user that Postgres runs as among them.
    temporary = Path(tempfile.gettempdir()) / f"farebox-{name}-{getpass.getuser()}"
    temporary.mkdir(mode=0o755, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | {"PYTEST_DEBUG_TEMPROOT": str(temporary)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 20,
    )
    if process.stdout is None:
        raise RuntimeError("The half was started without a pipe.")
    async for line in process.stdout:
        sys.stdout.write(f"{name:>9} | {line.decode(errors='replace')}")
        sys.stdout.flush()
    return await process.wait()


async def main() -> int:
    """Run both; 0 if all passed."""
    statuses = await asyncio.gather(*(run_half(*half) for half in HALVES.items()))
    return int(any(statuses))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
