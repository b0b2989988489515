"""What the engine's commands say of themselves."""

import pytest

from farebox_engine import cli
from farebox_engine.bench import __main__ as bench

ENGINE = ("", "train", "train-adapter", "train-classifier", "train-translator", "generate")
BENCH = ("", "accuracy", "encoders", "speculation", "translation", "gpu")


@pytest.mark.parametrize(
    ("main", "command"), [*((cli.main, name) for name in ENGINE), *((bench.main, name) for name in BENCH)]
)
def test_help_is_plain_text(main: object, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(main)
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith("usage: ")
    assert "`" not in told
