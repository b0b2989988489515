"""A document as PDF/A, by typst: with the fonts beside this file and none of the machine's.

The same document gives the same bytes anywhere: it is dated by its own date of issue.
"""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from farebox.billing.invoices.documents.document import InvoiceDocument
from farebox.billing.invoices.documents.layout import lay_out

_HERE = Path(__file__).parent
_TEMPLATES = _HERE / "templates"


def to_pdf(document: InvoiceDocument) -> bytes:
    """Takes a tenth of a second: to be called in a thread.

    What the document says reaches the template as data. The template can read its own folder, nothing else.
    """
    import typst  # noqa: PLC0415  few processes print, and it takes a while to load

    made: Any = typst.compile(
        (_TEMPLATES / "document.typ").read_bytes(),
        root=_TEMPLATES,
        font_paths=fonts(),
        format="pdf",
        sys_inputs={"laid": msgspec.json.encode(lay_out(document)).decode()},
        pdf_standards="a-2b",
        timestamp=datetime.fromisoformat(document.issued_on or document.period_end).replace(tzinfo=UTC),
    )
    return bytes(made)


@cache
def fonts() -> Any:
    """Those beside this file and those within typst; none of the machine's."""
    import typst  # noqa: PLC0415  as above

    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=True, font_paths=[_HERE / "fonts"])
