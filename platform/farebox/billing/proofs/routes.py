"""GET /v1/organization/receipts/{request_id} and /v1/organization/proofs/{request_id}.

They take a key with the scope `admin` and answer for the organization of that key.
"""

from litestar import Router, get
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath

from farebox.billing.proofs.documentation import PROOF, RECEIPT
from farebox.billing.proofs.schemas import ProofAnswer, ReceiptAnswer
from farebox.billing.proofs.service import make_receipt, prove
from farebox.core.database import Database
from farebox.core.ids import internal
from farebox.keys.dependencies import require_scope
from farebox.keys.receipt_keys import ReceiptKeys
from farebox.keys.service import Principal
from farebox.usage.reading import report_transaction


@get(
    "/receipts/{request_id:str}",
    operation_id="getReceipt",
    summary="The receipt for a request, from the books",
    opt={"documentation": RECEIPT},
)
async def receipt(
    request_id: FromPath[str],
    database: NamedDependency[Database],
    principal: NamedDependency[Principal],
    receipt_keys: NamedDependency[ReceiptKeys],
) -> ReceiptAnswer:
    """What the request came to, signed, once its hour is sealed."""
    wanted = internal("req", request_id)
    async with report_transaction(database, principal.organization_id) as session:
        return await make_receipt(session, receipt_keys, principal.organization_id, wanted)


@get(
    "/proofs/{request_id:str}",
    operation_id="getProof",
    summary="The proof that a request is in a sealed hour",
    opt={"documentation": PROOF},
)
async def proof(
    request_id: FromPath[str],
    database: NamedDependency[Database],
    principal: NamedDependency[Principal],
    receipt_keys: NamedDependency[ReceiptKeys],
) -> ProofAnswer:
    """The way from the request's entries to a signed seal."""
    wanted = internal("req", request_id)
    async with report_transaction(database, principal.organization_id) as session:
        return await prove(session, receipt_keys, principal.organization_id, wanted)


router = Router(
    path="/v1/organization",
    route_handlers=[receipt, proof],
    dependencies={"principal": Provide(require_scope("admin"))},
    tags=["Usage"],
)
