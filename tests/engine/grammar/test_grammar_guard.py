"""What takes too long to compile is stopped, and harms nobody else."""

import gc
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from farebox_engine import GrammarSpec, RequestError
from farebox_engine.grammar.guard import GrammarGuard, TooSlowError
from tests.engine.conftest import StartEngine
from tests.engine.grammar.stuck_grammars import SLOW

BYTES = [bytes([byte]) for byte in range(256)]
QUICK = "start: /[a-z]+/"


TRIAL_SECONDS = 0.5


def make_guard(**options: Any) -> GrammarGuard:
    return GrammarGuard([*BYTES, b"<end>"], [256], [256], {}, **options)


@pytest.fixture
def guard() -> GrammarGuard:
    return make_guard(seconds=TRIAL_SECONDS)


Trials = Callable[[], list[psutil.Process]]


def all_trials() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "grammar/trial" in " ".join(each.cmdline())]


@pytest.fixture
def trials() -> Trials:
    """The processes that this test's guards have; engines of other tests in this process have theirs."""
    others = set(all_trials())
    return lambda: [each for each in all_trials() if each not in others]


def test_what_does_not_end_in_time_is_refused_and_the_next_is_tried(guard: GrammarGuard) -> None:
    guard.check(QUICK)
    with pytest.raises(TooSlowError):
        guard.check(SLOW)
    guard.check(QUICK)
    guard.close()


def test_what_was_refused_is_not_tried_again(guard: GrammarGuard, trials: Trials) -> None:
    for _ in range(2):
        with pytest.raises(TooSlowError):
            guard.check(SLOW)
    assert not trials(), "the process did not survive, and there was no need of another"


def seconds_until_refused(guard: GrammarGuard) -> float:
    began = time.monotonic()
    with pytest.raises(TooSlowError):
        guard.check(SLOW)
    return time.monotonic() - began


def test_a_refusal_is_not_for_ever() -> None:
    guard = make_guard(seconds=TRIAL_SECONDS, refused_seconds=0.0)
    for _ in range(2):
        assert seconds_until_refused(guard) >= TRIAL_SECONDS, "it was tried"


def test_the_oldest_verdict_is_forgotten() -> None:
    guard = make_guard(seconds=TRIAL_SECONDS, kept_verdicts=1)
    seconds_until_refused(guard)
    guard.check(QUICK)
    assert seconds_until_refused(guard) >= TRIAL_SECONDS, "it was tried again"
    guard.close()


def test_what_passed_is_not_tried_again(guard: GrammarGuard, trials: Trials) -> None:
    guard.check(QUICK)
    guard.close()
    guard.check(QUICK)
    assert not trials()


def test_what_cannot_be_enforced_is_not_the_guards_concern(guard: GrammarGuard, trials: Trials) -> None:
    guard.check("this is no grammar")
    guard.check(QUICK)
    assert len(trials()) == 1
    guard.close()
    assert not trials()


def test_one_that_takes_too_much_memory_is_refused() -> None:
    guard = make_guard(seconds=20, memory_bytes=64 << 20)
    with pytest.raises(TooSlowError):
        guard.check(SLOW)


def test_the_process_ends_with_its_guard(trials: Trials) -> None:
    guard = make_guard()
    guard.check(QUICK)
    assert len(trials()) == 1
    del guard
    gc.collect()
    assert not trials()


async def test_a_slow_grammar_is_refused_by_its_name_and_others_are_not(
    start_engine: StartEngine, trials: Trials
) -> None:
    engine = start_engine()
    with pytest.raises(RequestError, match="takes too long to compile") as refused:
        engine.compile_grammar(GrammarSpec("lark", SLOW, "structured_outputs"))
    assert refused.value.param == "structured_outputs"
    engine.compile_grammar(GrammarSpec("lark", QUICK))
    engine.close()
    assert not trials()
