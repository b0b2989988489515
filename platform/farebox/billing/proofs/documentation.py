"""What the routes of receipts and proofs say of themselves in the API reference."""

from farebox.billing.proofs.schemas import ProofAnswer, ReceiptAnswer
from farebox.core.errors import NotFound
from farebox.core.openapi.documentation import REQUEST_ID, SERVER_ERRORS, Content, Documentation, Reply
from farebox.keys.errors import DuplicateHeader, InsufficientScope, InvalidApiKey
from farebox.metering.seals.proofs import BookedTwice, Chain, ChainedHour, EntryProof, NotAsSealed, NotSealed
from farebox.usage.errors import ReportTooSlow

_ERRORS = (
    DuplicateHeader(),
    InvalidApiKey(),
    InsufficientScope("admin"),
    NotFound("No such request.", code="not_found"),
    NotSealed(),
    NotAsSealed(),
    BookedTwice(),
    ReportTooSlow(),
    *SERVER_ERRORS,
)
_STATEMENT = "eyJyZXF1ZXN0X2lkIjoicmVxXzAxOTlkM2YwIn0"
_JWS = "eyJhbGciOiJFZERTQSJ9.eyJyb290IjoiNmUzNGI5Y2YifQ.c2lnbmF0dXJl"

RECEIPT = Documentation(
    values={"request_id": REQUEST_ID},
    replies=[
        Reply(
            description="The receipt: `statement.path.header.payload.signature`, as in `Farebox-Receipt`.",
            contents=[
                Content(
                    kind=ReceiptAnswer,
                    examples={
                        "a receipt": ReceiptAnswer(request_id=REQUEST_ID, receipt=f"{_STATEMENT}..{_JWS}")
                    },
                )
            ],
        )
    ],
    errors=_ERRORS,
    security="apiKey",
)

PROOF = Documentation(
    values={"request_id": REQUEST_ID},
    replies=[
        Reply(
            description="The proof. Paths are base64url: steps of 33 bytes, a side (0: the neighbour is "
            "left, 1: right) and the neighbour's SHA-256. Roots and seals are in hex. `seal` is a JWS.",
            contents=[
                Content(
                    kind=ProofAnswer,
                    examples={
                        "an event alone in its hour": ProofAnswer(
                            request_id=REQUEST_ID,
                            entries=[
                                EntryProof(
                                    organization='{"organization_id":"org_0199d3","hour":'
                                    '"2026-12-01T10:00:00Z","entries":1,"root":"6e340b9c"}',
                                    organization_path="",
                                    leaf='{"kind":"event","request_id":"req_0199d3f0","amount":"0.000123"}',
                                    path="",
                                )
                            ],
                            chain=Chain("fac54203", [ChainedHour("2026-12-01T10:00:00Z", "aeb6bcfe")]),
                            seal=_JWS,
                        )
                    },
                )
            ],
        )
    ],
    errors=_ERRORS,
    security="apiKey",
)
