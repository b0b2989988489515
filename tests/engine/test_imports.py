"""What an engine costs before it does anything."""

import subprocess
import sys


def test_the_engine_comes_without_torchs_compiler() -> None:
    """It is 900 modules and 140 MiB, of which a CPU needs nothing."""
    heavy = ("torch._dynamo", "torch._inductor", "triton", "transformers")
    script = f"import sys, farebox_engine; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
