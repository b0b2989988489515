"""A document laid out in words: what HTML and PDF show, so that neither computes and both say the same."""

from typing import TypedDict

from farebox.billing.invoices.documents.document import InvoiceDocument, Line, Movements, Party
from farebox.billing.invoices.documents.words import WORDS, written_day
from farebox.core.settings import Language

Row = tuple[str, str]


class Laid(TypedDict):
    """Texts only. `columns` has a heading for each of a line's cells; `parties` are two lists of lines."""

    language: str
    title: str
    heading: str
    facts: list[Row]
    parties: list[tuple[str, list[str]]]
    columns: list[str]
    lines: list[list[str]]
    nothing: str
    sums: list[Row]
    balance_heading: str
    balance: list[Row]
    payment_heading: str
    payment: str
    note: str
    issued_on: str


def lay_out(document: InvoiceDocument) -> Laid:
    words = WORDS[document.language]
    heading = words[document.kind]
    return Laid(
        language=document.language,
        title=f"{heading} {document.number or words['draft']}",
        heading=heading,
        facts=_facts(document),
        parties=[
            (words["issuer"], _party(document.issuer, document.language)),
            (words["customer"], _party(document.customer, document.language)),
        ],
        columns=[
            words["description"],
            words["quantity"],
            words["unit_price"],
            words["exact_amount"],
            f"{words['amount']} ({document.currency})",
        ],
        lines=[_line(line, document.language) for line in document.lines],
        nothing=words["no_lines"],
        sums=_sums(document),
        balance_heading=words["balance"],
        balance=_balance(document.balance, document),
        payment_heading=words["payment"],
        payment=document.payment or "",
        note=words["rounding"],
        issued_on=document.issued_on or "",
    )


def grouped(amount: str) -> str:
    """`1,234,567.00` of `1234567.00`."""
    sign, digits = ("-", amount[1:]) if amount.startswith("-") else ("", amount)
    whole, point, fraction = digits.partition(".")
    return f"{sign}{int(whole):,}{point}{fraction}"


def _facts(document: InvoiceDocument) -> list[Row]:
    words, language = WORDS[document.language], document.language
    first, last = (written_day(day, language) for day in (document.period_start, document.period_end))
    rows = [(words["number"], document.number or words["draft"])]
    if document.refers_to:
        rows.append((words["refers_to"], document.refers_to))
    if document.reason:
        rows.append((words["reason"], document.reason))
    if document.issued_on:
        rows.append((words["issued_on"], written_day(document.issued_on, language)))
    rows.append((words["period"], f"{first} – {last}"))
    if document.due_on:
        rows.append((words["due_on"], written_day(document.due_on, language)))
    return rows


def _party(party: Party, language: Language) -> list[str]:
    lines = [party.name, *party.address, party.country, party.email]
    if party.tax_id:
        lines.append(f"{WORDS[language]['tax_id']}: {party.tax_id}")
    return [line for line in lines if line]


def _line(line: Line, language: Language) -> list[str]:
    words = WORDS[language]
    description = line.description
    if line.usage_class is not None:
        description = f"{line.project} · {line.model} · {words[line.usage_class]}"
    quantity = f"{grouped(line.quantity)} {words[line.unit]}"
    price = grouped(line.unit_price) if line.unit_price else "–"
    return [description, quantity, price, grouped(line.exact_amount), grouped(line.amount)]


def _sums(document: InvoiceDocument) -> list[Row]:
    words = WORDS[document.language]
    rows = [("total", document.total)]
    if document.kind == "invoice":
        rows += [("paid_from_balance", document.paid_from_balance), ("amount_due", document.amount_due)]
    elif document.kind == "credit_note":
        rows = [("credited", document.total)]
    return [(words[name], f"{grouped(amount)} {document.currency}") for name, amount in rows]


def _balance(balance: Movements | None, document: InvoiceDocument) -> list[Row]:
    if balance is None:
        return []
    words = WORDS[document.language]
    return [
        (words[name], f"{grouped(getattr(balance, name))} {document.currency}")
        for name in Movements.__struct_fields__
    ]
