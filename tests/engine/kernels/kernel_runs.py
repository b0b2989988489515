"""Running checks of Triton kernels in a process of their own.

The interpreter must be chosen before triton is imported, so each run has a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path


def checks_passed(script: str, part: str, *, interpret: bool, cache: Path | None = None) -> int:
    """How many checks `part` of `script`, beside this file, ran; all of them must have passed."""
    environment = os.environ | {"TRITON_INTERPRET": str(int(interpret)), "OMP_NUM_THREADS": "1"}
    if cache is not None:
        environment["TRITON_CACHE_DIR"] = str(cache)
    command = [sys.executable, str(Path(__file__).with_name(script)), part]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)
    assert run.returncode == 0, run.stderr[-4000:]
    return int(run.stdout.split()[0])
