"""The line that says how training goes."""

from __future__ import annotations

import io

from farebox_engine.training.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(output: io.StringIO, steps: int, seconds: float) -> None:
    """Train ``steps`` steps of 1,000 tokens, ``seconds`` each, the first of them a resumed one."""
    clock = Clock()
    progress = Progress(steps, 1000, output, clock)
    for step in range(1, steps + 1):
        clock.now += seconds
        progress.update(step, loss=4.0)
    progress.close()


def test_a_log_file_gets_a_line_each_half_minute_and_the_last() -> None:
    output = io.StringIO()
    run(output, steps=50, seconds=2.0)
    lines = output.getvalue().splitlines()
    assert len(lines) == 4
    assert "15/50  loss 4.000  500 tokens/s  1:10 left" in lines[0]
    assert "50/50" in lines[-1]
    assert "0:00 left" in lines[-1]
    assert "\r" not in output.getvalue()


def test_a_terminal_gets_one_line_that_is_redrawn() -> None:
    output = Terminal()
    run(output, steps=10, seconds=1.0)
    assert output.getvalue().count("\n") == 1
    assert output.getvalue().count("\r") == 10


def test_a_long_run_counts_hours() -> None:
    output = Terminal()
    run(output, steps=3000, seconds=2.0)
    assert "1:39:56 left" in output.getvalue()
