"""The adapters that one engine has loaded."""

from __future__ import annotations

import threading
from pathlib import Path

from torch import nn

from farebox_engine.errors import LoadError, RequestError
from farebox_engine.lora.adapter import Adapter, AdapterInfo
from farebox_engine.lora.batch import attach
from farebox_engine.lora.reading import adaptable_places, read_adapter
from farebox_engine.models.loader import LoadedModel


class AdapterStore:
    """Adapters by name; safe to use from any thread. To be made before the model is packed.

    A sequence holds its adapter itself, so that one that is unloaded or replaced lives until the
    last sequence that began with it has ended.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        # Read off the model as it was loaded: packed for a CPU, it has no weights to look at.
        self._places = adaptable_places(loaded)
        self._lock = threading.Lock()
        self._adapters: dict[str, Adapter] = {}
        self._attached: set[str] = set()

    def load(self, name: str, folder: str | Path) -> AdapterInfo:
        """Read a folder and offer it as `name`, in place of what had that name.

        Raises:
            LoadError: it cannot be used; nothing has changed then.
        """
        if not name:
            raise LoadError("An adapter needs a name; give one.")
        adapter = read_adapter(name, folder, self._loaded, self._places)
        with self._lock:
            self._attach(adapter)
            self._adapters[name] = adapter
        return _describe(adapter)

    def unload(self, name: str) -> None:
        """Offer `name` no more.

        Raises:
            LoadError: there is none of that name.
        """
        with self._lock:
            if self._adapters.pop(name, None) is None:
                raise LoadError(f"There is no adapter {name!r} to unload.")

    def find(self, name: str | None) -> Adapter | None:
        """The adapter of that name, none for None.

        Raises:
            RequestError: there is none of that name.
        """
        if name is None:
            return None
        adapter = self._adapters.get(name)
        if adapter is None:
            raise RequestError(f"There is no adapter {name!r} for this model.", "model")
        return adapter

    def all(self) -> list[AdapterInfo]:
        """What is loaded, by name."""
        with self._lock:
            adapters = list(self._adapters.values())
        return sorted(map(_describe, adapters), key=lambda info: info.name)

    def _attach(self, adapter: Adapter) -> None:
        # Only where an adapter is: a hook costs each call of a projection a microsecond.
        model = self._loaded.model
        if isinstance(model, nn.Module):
            for path in adapter.matrices.keys() - self._attached:
                attach(model.get_submodule(path), path)
                self._attached.add(path)


def _describe(adapter: Adapter) -> AdapterInfo:
    return AdapterInfo(adapter.name, adapter.hash, adapter.rank, adapter.parameters)
