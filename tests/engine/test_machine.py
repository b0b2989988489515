"""Loading a model leaves no pool of worker threads behind, which would slow the engine's own."""

import subprocess
import sys

import pytest

_LOAD = """
import os, torch
from farebox_engine import Engine, EngineConfig, demo
torch.set_num_threads(4)
before = len(os.listdir("/proc/self/task"))
Engine.load(demo.path(), EngineConfig(device="cpu", threads=4, kv_cache_bytes=1 << 24))
print(len(os.listdir("/proc/self/task")) - before, torch.get_num_threads())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_loading_starts_no_threads() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _LOAD], capture_output=True, text=True, timeout=100, check=True
    )
    assert run.stdout.split() == ["0", "4"]
