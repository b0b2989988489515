"""The operator's choice of eight-bit weights reaches the engine."""

import pytest

from farebox.billing.models import ModelOffer
from farebox.core.settings import Settings
from farebox.gateway.checkpoints import demo_folder
from farebox.gateway.local_backend import local_backends
from farebox_engine import LoadError


def test_what_the_device_cannot_compute_is_refused_by_name() -> None:
    settings = Settings(engine_device="cpu", engine_quantization="fp8", engine_threads=1)
    offer = ModelOffer(id="demo", path=str(demo_folder()), sha256="", owned_by="farebox", context_length=1)
    with pytest.raises(LoadError, match="'fp8', which needs a GPU; use int8"):
        local_backends(settings)(offer)
