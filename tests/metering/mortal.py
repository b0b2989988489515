"""A process that loses Postgres, and then its life."""

import shutil
from pathlib import Path

import pytest

from farebox.core.errors import Unavailable
from farebox.core.settings import Settings
from farebox.metering.meter import Meter
from tests.metering.cut_wire import CutWire


class Mortal:
    """A process whose way to Postgres can be cut, and that can be found dead at any moment."""

    def __init__(self, meter: Meter, wire: CutWire, directory: Path, settings: Settings, url: str) -> None:
        self.meter = meter
        self.wire = wire
        self.directory = directory
        self._settings = settings
        self._url = url

    @property
    def files(self) -> set[str]:
        return {path.suffix for path in (self.directory / "spool").iterdir() if path.stat().st_size}

    async def lose_postgres(self) -> None:
        self.wire.away = True
        self.wire.cut()
        with pytest.raises(Unavailable):
            await self.meter.turn()

    async def be_buried(self, name: str = "heir") -> Path:
        """Another process starts with the files as they lie there now; its spool."""
        heir = self.directory.parent / name
        shutil.copytree(self.directory / "spool", heir / "spool")
        meter = await Meter.open(self._settings, self._url, heir, turn_seconds=None)
        await meter.close()
        return heir / "spool"
