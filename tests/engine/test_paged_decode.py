"""The Triton kernels beside plain torch, under Triton's interpreter: no GPU is needed.

The interpreter must be chosen before triton is imported, so each run has a process of its own.
"""

import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

_CHECKS = Path(__file__).with_name("kernel_checks.py")
pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@pytest.mark.parametrize("part", ["shapes", "rules", "storing", "random"])
def test_kernels_equal_plain_torch(part: str) -> None:
    assert _checks_passed(part, interpret=True) >= 3


@pytest.mark.skipif(platform.machine() != "x86_64", reason="triton's assembler is for x86-64")
def test_kernels_compile_for_hopper(tmp_path: Path) -> None:
    assert _checks_passed("compiling", interpret=False, cache=tmp_path) == 36


def _checks_passed(part: str, *, interpret: bool, cache: Path | None = None) -> int:
    environment = os.environ | {"TRITON_INTERPRET": str(int(interpret)), "OMP_NUM_THREADS": "1"}
    if cache is not None:
        environment["TRITON_CACHE_DIR"] = str(cache)
    run = subprocess.run(
        [sys.executable, str(_CHECKS), part], env=environment, capture_output=True, text=True, timeout=110
    )
    assert run.returncode == 0, run.stderr[-4000:]
    return int(run.stdout.split()[0])
