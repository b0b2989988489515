"""The operator's choice of eight-bit weights reaches the engine, or the operator reads that it does not."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Literal

import pytest
from structlog.testing import capture_logs

from farebox.billing.models import ModelOffer
from farebox.core.settings import Settings
from farebox.gateway.models.checkpoints import demo_folder
from farebox.gateway.models.local import local_backends
from farebox_engine import LoadError
from tests.engine.encoders.checkpoints import build_encoder
from tests.engine.seq2seq.checkpoints import build_seq2seq


def test_what_the_device_cannot_compute_is_refused_by_name() -> None:
    settings = Settings(engine_device="cpu", engine_quantization="fp8", engine_threads=1)
    offer = ModelOffer(id="demo", path=str(demo_folder()), sha256="", owned_by="farebox", context_length=1)
    with pytest.raises(LoadError, match="'fp8', which needs a GPU; use int8"):
        local_backends(settings)(offer)


@pytest.mark.parametrize("kind", ["encoder", "encoder-decoder"])
async def test_a_model_that_keeps_its_precision_is_named_in_the_log(kind: str, tmp_path: Path) -> None:
    folder = build_encoder(tmp_path, "Bert") if kind == "encoder" else build_seq2seq(tmp_path, "marian")
    assert await warnings("int8", folder) == [
        {
            "event": "model.keeps_precision",
            "log_level": "warning",
            "model": "mine",
            "kind": kind,
            "reason": "FAREBOX_ENGINE_QUANTIZATION=int8 is for decoders only",
        }
    ]
    assert await warnings("none", folder) == []


async def test_a_decoder_takes_it_without_a_word() -> None:
    assert await warnings("int8", demo_folder()) == []


async def warnings(quantization: Literal["none", "int8"], folder: Path) -> list[MutableMapping[str, Any]]:
    """What is logged while a model is loaded."""
    settings = Settings(engine_device="cpu", engine_quantization=quantization, engine_threads=1)
    offer = ModelOffer(id="mine", path=str(folder), sha256="", owned_by="farebox", context_length=1)
    with capture_logs() as lines:
        backend = local_backends(settings)(offer)
    await backend.close()
    return lines
