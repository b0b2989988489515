"""A document as a page that needs nothing else: no script, and its style within."""

import hashlib
from base64 import b64encode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from farebox.billing.invoices.documents.document import InvoiceDocument
from farebox.billing.invoices.documents.layout import lay_out

_templates = Environment(
    loader=PackageLoader("farebox.billing.invoices.documents"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_style = _templates.get_template("document.css").render()
_digest = b64encode(hashlib.sha256(_style.encode()).digest()).decode()

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_digest}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'; sandbox"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def to_html(document: InvoiceDocument) -> str:
    """The page; what anybody typed is escaped."""
    # Ours, and without anybody's words.
    style = Markup(_style)  # noqa: S704
    return _templates.get_template("document.html").render(laid=lay_out(document), style=style)
