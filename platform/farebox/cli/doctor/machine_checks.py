"""What `farebox doctor` looks at without a database: GPU, disk, and how clocks compare."""

import os
import shutil
from pathlib import Path

from farebox.cli.doctor.findings import Finding
from farebox.core.settings import Settings
from farebox.gateway.models.checkpoints import describe_device
from farebox.gateway.models.local import quantization_refusal

LEAST_FREE_BYTES = 2 << 30
CLOCK_SECONDS = 2.0


def check_device(settings: Settings) -> Finding:
    """What models run on; a failure when the settings ask for a GPU, or a precision, that is not there."""
    detail = describe_device()
    if settings.engine_device == "cuda" and detail.startswith("no GPU"):
        mend = "Install the GPU's driver and a CUDA build of torch, or set FAREBOX_ENGINE_DEVICE=cpu."
        return Finding("GPU", "failure", detail, mend)
    if refusal := quantization_refusal(settings):
        return Finding("GPU", "failure", refusal, "Set FAREBOX_ENGINE_QUANTIZATION=int8, or none.")
    return Finding("GPU", "ok", detail)


def check_disk(directory: Path) -> Finding:
    """Whether the data directory, or the one it will be made in, can be written and has room."""
    place = directory
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        mend = "Set FAREBOX_DATA to a directory that this user may write in."
        return Finding("disk", "failure", f"cannot write in {place}", mend)
    return judge_disk(directory, shutil.disk_usage(place).free)


def judge_disk(directory: Path, free_bytes: int) -> Finding:
    """A failure below 2 GiB: Postgres panics when it cannot write its log."""
    detail = f"{free_bytes / 2**30:.1f} GiB free under {directory}"
    if free_bytes < LEAST_FREE_BYTES:
        return Finding("disk", "failure", detail, "Free some space: Postgres stops on a full disk.")
    return Finding("disk", "ok", detail)


def judge_clock(skew_seconds: float) -> Finding:
    """`skew_seconds` is how far this clock is from the database's, either way."""
    if abs(skew_seconds) > CLOCK_SECONDS:
        detail = f"{abs(skew_seconds):.1f} s from the database's"
        return Finding("clock", "failure", detail, "Run NTP (chrony, systemd-timesyncd) on both machines.")
    return Finding("clock", "ok", f"within {CLOCK_SECONDS:.0f} s of the database's")
