"""The Triton kernels beside plain torch, under Triton's interpreter: no GPU is needed."""

import importlib.util
import platform
from pathlib import Path

import pytest

from tests.engine.kernels.kernel_runs import checks_passed

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@pytest.mark.parametrize("part", ["shapes", "rules", "storing", "random"])
def test_kernels_equal_plain_torch(part: str) -> None:
    assert checks_passed("kernel_checks.py", part, interpret=True) >= 3


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="triton's assembler is for x86-64")
def test_kernels_compile_for_hopper(tmp_path: Path) -> None:
    assert checks_passed("kernel_checks.py", "compiling", interpret=False, cache=tmp_path) == 36
