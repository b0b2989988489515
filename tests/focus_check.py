"""`make focus-check`: an export of a little of everything, held against FOCUS 1.2 by the FinOps Foundation's
validator.

The validator needs Python 3.12 and libraries that would not fit beside Farebox's: it lives in an environment
of its own. It ends well even where rules fail, so its lines are read.
"""

import argparse
import asyncio
import csv
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from farebox.core.database import Database
from farebox.core.postgres.embedded import EmbeddedPostgres
from tests.billing.exports.history import History
from tests.billing.exports.reading import ask, export
from tests.conftest import ROOT, migrate
from tests.metering.factories import open_account

VALIDATOR = "focus-validator==2.2.1"
# What its loader of Parquet needs.
BESIDE = "pyarrow<22"
CRITERIA = (
    "ACCOUNT_NAMING_SUPPORTED",
    "NEGOTIATED_PRICING_SUPPORTED",
    "PUBLIC_PRICE_LIST_SUPPORTED",
    "SUB_ACCOUNT_SUPPORTED",
    "TAGGING_SUPPORTED",
    "UNIT_PRICING_SUPPORTED",
    "USAGE_MEASUREMENT_SUPPORTED",
)
# It takes one of two criteria for both, and so asks for prices in a virtual currency; and it cannot know
# which charges have an invoice already.
FALSE_ALARM = re.compile(r"PricingCurrency\w+-C|CostAndUsage-D-0(4[6-9]|5[0-6])|InvoiceId-C-00[45]")
# Its rules for ConsumedQuantity read this one, which only those who sell commitments need to have.
NEEDED = "CommitmentDiscountStatus"


async def sample(url: str, folder: Path) -> Path:
    """A FOCUS export of one customer who has had one of each."""
    database = Database(url)
    history = History(database, await open_account(database, balance="0"))
    await history.of_everything()
    made = await export(database, ask(history.account), folder)
    await database.close()
    return with_needed(folder / made.parts[0].name)


def with_needed(path: Path) -> Path:
    """The same rows with a column more, which is null."""
    with path.open(newline="") as file:
        head, *rows = csv.reader(file)
    place = path.with_name("checked.csv")
    with place.open("w", newline="") as file:
        csv.writer(file).writerows([[NEEDED, *head], *(["", *row] for row in rows)])
    return place


def installed() -> Path | None:
    """The validator's command, in `.venv/focus`; None where no Python is new enough."""
    place = ROOT / ".venv" / "focus"
    command = place / "bin" / "focus-validator"
    if not command.exists():
        found = [each for minor in (14, 13, 12) if (each := shutil.which(f"python3.{minor}"))]
        if not found:
            return None
        subprocess.run([found[0], "-m", "venv", str(place)], check=True)  # noqa: S603
        subprocess.run([str(place / "bin" / "pip"), "install", VALIDATOR, BESIDE], check=True)  # noqa: S603
    return command


def failures(command: Path, data: Path) -> tuple[list[str], str]:
    """The rules that the export breaks, and all that the validator said."""
    arguments = [
        str(command),
        "--data-file",
        str(data),
        "--validate-version",
        "1.2.0.1",
        "--block-download",
        "--applicability-criteria",
        ",".join(CRITERIA),
        "--show-violations",
    ]
    # It looks for its list of currencies from where it is installed.
    (place,) = command.parent.parent.glob("lib/python*/site-packages")
    done = subprocess.run(arguments, cwd=place, capture_output=True, text=True, check=False)  # noqa: S603
    said = done.stdout + done.stderr
    failed = set(re.findall(r"(\w+-[CD]-\d{3}-[MCO]): FAIL", said))
    return sorted(each for each in failed if not FALSE_ALARM.match(each)), said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--validator", type=Path, help="The validator's command, where it is installed.")
    command = parser.parse_args().validator or installed()
    if command is None:
        sys.stderr.write("focus-validator needs Python 3.12 or newer, and there is none on the path.\n")
        return 2
    with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres(Path(directory) / "data") as server:
        migrate(server.url)
        data = asyncio.run(sample(server.url, Path(directory) / "export"))
        failed, said = failures(command, data)
    sys.stdout.write(said)
    sys.stdout.write(f"Failed: {', '.join(failed) or 'none'}.\n")
    return 1 if failed or "Pass: " not in said else 0


if __name__ == "__main__":
    sys.exit(main())
