"""What a part is written in: CSV (RFC 4180), JSON lines, Parquet."""

import io
from collections.abc import Sequence
from typing import IO, Any, Protocol

from farebox.billing.exports.errors import InvalidExport
from farebox.billing.exports.layouts.layout import Layout, Type
from farebox.billing.exports.query import Words
from farebox.billing.exports.tally import CsvTally, JsonTally

# Rows of CSV that Parquet takes at a time: what is held in memory of it.
_GROUP_BYTES = 4 << 20


class Writer(Protocol):
    """Writes one part into a file that it does not close."""

    def write(self, lines: Sequence[bytes]) -> None:
        """Rows as Postgres wrote them, without their line ends."""

    def finish(self) -> None: ...


class CsvWriter:
    """Lines that end in CR LF, below the names of the columns."""

    def __init__(self, layout: Layout, file: IO[bytes]) -> None:
        self._file = file
        file.write(",".join(layout.names).encode() + b"\r\n")

    def write(self, lines: Sequence[bytes]) -> None:
        self._file.write(b"\r\n".join(lines) + b"\r\n")

    def finish(self) -> None:
        pass


class JsonWriter:
    """An object a line."""

    def __init__(self, layout: Layout, file: IO[bytes]) -> None:
        self._file = file

    def write(self, lines: Sequence[bytes]) -> None:
        self._file.write(b"\n".join(lines) + b"\n")

    def finish(self) -> None:
        pass


class ParquetWriter:
    """Columns of decimal128 for all that is counted, so that no digit is lost."""

    def __init__(self, layout: Layout, file: IO[bytes]) -> None:
        arrow = _arrow()
        self._names = layout.names
        self._schema = arrow.schema(
            [(column.name, _arrow_type(arrow, column.type)) for column in layout.all_columns]
        )
        self._writer = arrow.parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._waiting: list[bytes] = []
        self._bytes = 0

    def write(self, lines: Sequence[bytes]) -> None:
        self._waiting += lines
        self._bytes += sum(map(len, lines))
        if self._bytes >= _GROUP_BYTES:
            self._write_group()

    def finish(self) -> None:
        self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        if not self._waiting:
            return
        arrow = _arrow()
        table = arrow.csv.read_csv(
            io.BytesIO(b"\n".join(self._waiting)),
            read_options=arrow.csv.ReadOptions(column_names=self._names, use_threads=False),
            convert_options=arrow.csv.ConvertOptions(
                column_types=self._schema, strings_can_be_null=True, quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        )  # fmt: skip
        self._writer.write_table(table)
        self._waiting, self._bytes = [], 0


class Format:
    """How a format is asked of Postgres, summed and written; `slow` if that would hold up the loop."""

    def __init__(
        self, suffix: str, words: Words, tally: Any, writer: Any, media_type: str, *, slow: bool = False
    ) -> None:
        self.suffix = suffix
        self.words: Words = words
        self.tally = tally
        self.writer = writer
        self.media_type = media_type
        self.slow = slow


CSV = Format("csv", "csv", CsvTally, CsvWriter, "text/csv")
JSONL = Format("jsonl", "json", JsonTally, JsonWriter, "application/jsonl")
PARQUET = Format("parquet", "plain", CsvTally, ParquetWriter, "application/vnd.apache.parquet", slow=True)


def _arrow() -> Any:
    try:
        import pyarrow  # noqa: PLC0415  an extra, of 50 MB
        import pyarrow.csv  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise InvalidExport("Parquet needs pyarrow: `pip install 'farebox[parquet]'`.") from None
    return pyarrow


def _arrow_type(arrow: Any, kind: Type) -> Any:
    match kind:
        case "money" | "quantity":
            return arrow.decimal128(38, 12)
        case "unit_price":
            return arrow.decimal128(38, 18)
        case "count":
            return arrow.int64()
        case "moment":
            return arrow.timestamp("s", tz="UTC")
        case "date":
            return arrow.date32()
    return arrow.string()
