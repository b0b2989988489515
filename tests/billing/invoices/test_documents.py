"""One JSON, and what is made of it: the same bytes each time, and what people typed is only ever text."""

import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from farebox.billing.invoices.documents import pdf
from farebox.billing.invoices.documents.document import (
    InvoiceDocument,
    Line,
    Movements,
    Party,
    from_json,
    to_json,
)
from farebox.billing.invoices.documents.html import HEADERS, to_html
from farebox.billing.invoices.documents.layout import grouped, lay_out
from farebox.billing.invoices.documents.pdf import to_pdf
from farebox.billing.invoices.documents.words import WORDS

HOSTILE = [
    '#read("/etc/passwd")',
    "$$",
    "$ sum $ #panic() ",
    "*bold* _it_ `raw` = heading @label <label>",
    '</td><script>alert("x")</script>',
    "{{ laid }} {% for %}",
    '"},"title":"other',
    "\\u{41} // comment /* open",
]
LINE = Line(
    description="demo, output_tokens",
    project_id="proj_1",
    project="Default",
    model="demo",
    usage_class="output_tokens",
    quantity="1234567.000001",
    unit="1M tokens",
    unit_price="0.50",
    exact_amount="617283.5000005",
    amount="617283.50",
    account="revenue:demo",
)
INVOICE = InvoiceDocument(
    kind="invoice",
    number="INV-2026-000001",
    organization_id="org_1",
    period_start="2026-11-01",
    period_end="2026-11-30",
    issued_on="2026-12-01",
    due_on="2026-12-31",
    currency="USD",
    language="en",
    issuer=Party(name="Farebox Ltd", address=["1 Quay Street"], tax_id="XX 123"),
    customer=Party(name="Acme", address=["Kai 1", "20457 Hamburg"], country="DE"),
    lines=[LINE],
    exact_total="617283.5000005",
    total="617283.50",
    paid_from_balance="0.00",
    amount_due="617283.50",
    payment="IBAN XX00 0000",
)


def with_name(name: str, document: InvoiceDocument = INVOICE) -> InvoiceDocument:
    """The name wherever somebody may have typed one."""
    return msgspec.structs.replace(
        document,
        customer=Party(name=name, address=[name], tax_id=name, email=name),
        lines=[msgspec.structs.replace(LINE, project=name, model=name)],
        reason=name,
        payment=name,
    )


def characters_of(document: bytes) -> set[str]:
    """The characters that a PDF shows, by the maps of its fonts (ToUnicode)."""
    shown: set[str] = set()
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", document, re.DOTALL):
        try:
            text = zlib.decompress(stream)
        except zlib.error:
            continue
        for block in re.findall(rb"beginbfchar(.*?)endbfchar", text, re.DOTALL):
            for code in re.findall(rb"<[0-9a-fA-F]+>\s*<([0-9a-fA-F]+)>", block):
                shown |= set(bytes.fromhex(code.decode()).decode("utf-16-be"))
    return shown


class Texts(HTMLParser):
    """The elements and the texts of a page, as a browser reads them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_somebody_typed_is_text_in_a_pdf(name: str) -> None:
    """Were it code, typst would fail on it, or the characters that mark code would not be shown."""
    document = with_name(name)
    assert set(name) - {" "} <= characters_of(to_pdf(document))


@pytest.mark.parametrize("name", HOSTILE)
def test_what_somebody_typed_is_text_on_a_page(name: str) -> None:
    plain, hostile = Texts(to_html(with_name("Acme"))), Texts(to_html(with_name(name)))
    assert hostile.elements == plain.elements
    assert "script" not in hostile.elements
    assert name in [text.strip() for text in hostile.texts] or name.strip() in map(str.strip, hostile.texts)


def test_a_page_may_load_and_run_nothing() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe-inline" not in policy
    assert "src=" not in to_html(INVOICE)


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_the_same_document_has_the_same_bytes(language: str, tmp_path: Path) -> None:
    """In another process, too, at another time and in another place."""
    document = msgspec.structs.replace(INVOICE, language=language)
    file = tmp_path / "document.json"
    file.write_text(to_json(document))
    script = (
        "import sys; from pathlib import Path;"
        "from farebox.billing.invoices.documents.document import from_json;"
        "from farebox.billing.invoices.documents.pdf import to_pdf;"
        "sys.stdout.buffer.write(to_pdf(from_json(Path(sys.argv[1]).read_text())))"
    )
    made = subprocess.run(
        [sys.executable, "-c", script, str(file)],
        cwd=tmp_path,
        env={"TZ": "Asia/Tokyo", "LANG": "C", "HOME": str(tmp_path)},
        capture_output=True,
        check=True,
    ).stdout
    assert made == to_pdf(document)
    assert made.startswith(b"%PDF-")
    assert b"2026-12-01T00:00:00" in made or b"D:20261201000000" in made


def test_chinese_needs_no_font_of_the_machine() -> None:
    document = msgspec.structs.replace(with_name("东方明珠科技有限公司，上海市浦东新区"), language="zh-Hans")
    shown = characters_of(to_pdf(document))
    assert set("东方明珠科技有限公司账单编号应付金额") <= shown
    assert {font.family for font in pdf.fonts().fonts() if font.path} == {"Noto Sans CJK SC"}


def test_every_word_is_in_every_language_and_in_the_font() -> None:
    english, chinese = WORDS["en"], WORDS["zh-Hans"]
    assert english.keys() == chinese.keys()
    everything = "".join(chinese.values())
    document = msgspec.structs.replace(INVOICE, payment=everything, language="zh-Hans")
    assert set(everything) - {" "} <= characters_of(to_pdf(document))
    assert "\ufffd" not in everything


def test_the_font_comes_with_its_licence_and_is_small() -> None:
    fonts = Path(pdf.__file__).parent / "fonts"
    (font,) = fonts.glob("*.otf")
    assert font.stat().st_size < 3_000_000
    assert "SIL OPEN FONT LICENSE Version 1.1" in (fonts / "OFL.txt").read_text()


def test_the_json_is_canonical_and_comes_back() -> None:
    text = to_json(INVOICE)
    assert to_json(from_json(text)) == text
    assert '"exact_total":"617283.5000005"' in text


def test_a_statement_shows_how_the_balance_moved() -> None:
    statement = msgspec.structs.replace(
        INVOICE,
        kind="statement",
        balance=Movements(
            opening="20.00",
            top_ups="5.00",
            grants="0.00",
            expiries="-1.00",
            usage="-12.0140655",
            fees="0.00",
            other="0.00",
            closing="11.9859345",
        ),
    )
    laid = lay_out(statement)
    assert laid["balance"][0] == ("At the beginning", "20.00 USD")
    assert laid["balance"][4] == ("Used", "-12.0140655 USD")
    assert laid["sums"] == [("Total", "617,283.50 USD")]
    for made in (to_html(statement), to_html(msgspec.structs.replace(statement, lines=[]))):
        assert "11.9859345 USD" in made
    assert to_pdf(msgspec.structs.replace(statement, lines=[])).startswith(b"%PDF")


def test_a_line_without_a_price_shows_none() -> None:
    laid = lay_out(msgspec.structs.replace(INVOICE, lines=[msgspec.structs.replace(LINE, unit_price=None)]))
    assert laid["lines"] == [
        ["Default · demo · output", "1,234,567.000001 1M tokens", "–", "617,283.5000005", "617,283.50"]
    ]


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("0", "0"), ("-1234.5", "-1,234.5"), ("1000", "1,000"), ("999999.999999", "999,999.999999")],
)
def test_thousands_are_parted(amount: str, shown: str) -> None:
    assert grouped(amount) == shown
