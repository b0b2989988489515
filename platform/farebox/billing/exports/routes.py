"""/v1/organization/exports: asked for with a key of the scope `admin`, downloaded by links that expire."""

import time
from typing import Any

from litestar import Response, Router, get, post
from litestar.connection import Request
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody

from farebox.billing.exports import service
from farebox.billing.exports.documentation import EXPORT, EXPORT_PART, EXPORTS, NEW_EXPORT
from farebox.billing.exports.errors import ExportNotFound
from farebox.billing.exports.kinds import kind_of
from farebox.billing.exports.links import LINK_SECONDS, PURPOSE, check_link, part_path, signed_query
from farebox.billing.exports.models import Export, ExportPart
from farebox.billing.exports.schemas import (
    ExportedPart,
    ExportObject,
    ExportPage,
    ExportWithParts,
    Link,
    NewExport,
    PartsAfter,
)
from farebox.core.database import Database
from farebox.core.ids import external, internal
from farebox.core.settings import Settings
from farebox.keys.dependencies import require_scope
from farebox.keys.sealing import derived_key
from farebox.keys.service import Principal
from farebox.usage.parameters import parse

MAX_PART_NUMBER = 2**31 - 1


@post(
    "/exports",
    status_code=202,
    operation_id="createExport",
    summary="Ask for an export",
    opt={"documentation": NEW_EXPORT},
)
async def create_export(
    data: JSONBody[NewExport], database: NamedDependency[Database], principal: NamedDependency[Principal]
) -> ExportObject:
    """The worker makes it: look again until its status is `completed`."""
    async with database.transaction(organization_id=principal.organization_id) as session:
        export = await service.request_export(session, principal.organization_id, data)
    return ExportObject(**_said(export))


@get(
    "/exports",
    operation_id="listExports",
    summary="The organization's exports",
    opt={"documentation": EXPORTS},
)
async def list_exports(
    database: NamedDependency[Database], principal: NamedDependency[Principal]
) -> ExportPage:
    """The newest first, a hundred at most. They are kept for a week."""
    async with database.transaction(organization_id=principal.organization_id) as session:
        exports = await service.list_exports(session, principal.organization_id)
    return ExportPage(data=[ExportObject(**_said(export)) for export in exports])


@get(
    "/exports/{export_id:str}",
    operation_id="getExport",
    summary="An export, and links to its parts",
    opt={"documentation": EXPORT},
)
async def get_export(
    export_id: FromPath[str],
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    principal: NamedDependency[Principal],
    settings: NamedDependency[Settings],
) -> ExportWithParts:
    """How far it is; when it is completed, its parts. A link opens for an hour: ask again for another."""
    after = parse(request, PartsAfter).after_part
    async with database.transaction(organization_id=principal.organization_id) as session:
        export = await service.find_export(session, principal.organization_id, internal("export", export_id))
        parts = await service.parts_of(session, export, after)
    key, expires = derived_key(settings, PURPOSE), int(time.time()) + LINK_SECONDS
    files = [_linked(export, part, settings, key, expires) for part in parts]
    return ExportWithParts(**_said(export), files=files)


@get(
    "/exports/{export_id:str}/parts/{number:int}",
    operation_id="downloadExportPart",
    summary="Download a part",
    opt={"documentation": EXPORT_PART},
)
async def download_part(
    export_id: FromPath[str],
    number: FromPath[int],
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[bytes]:
    """A part's bytes. The link that an export's answer has is all that is needed."""
    link = parse(request, Link)
    wanted = internal("export", export_id)
    check_link(derived_key(settings, PURPOSE), wanted, number, link, time.time())
    organization_id = internal("org", link.organization)
    if not 0 < number <= MAX_PART_NUMBER:
        raise ExportNotFound
    async with database.transaction(organization_id=organization_id) as session:
        export, part = await service.read_part(session, organization_id, wanted, number)
    return _file(export, part)


def _file(export: Export, part: ExportPart) -> Response[bytes]:
    return Response(
        part.content,
        media_type=kind_of(export.listing, export.format).format.media_type,
        headers={
            "Content-Disposition": f'attachment; filename="{_name(export, part.number)}"',
            "Cache-Control": "private, no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _name(export: Export, number: int) -> str:
    suffix = kind_of(export.listing, export.format).format.suffix
    return f"{export.listing}-{export.format}-{number:06}.{suffix}"


def _said(export: Export) -> dict[str, Any]:
    names = ("listing", "format", "rows_per_part", "status", "rows", "parts", "sums", "failure")
    completed = export.completed_at
    return {
        **{name: getattr(export, name) for name in names},
        "id": external("export", export.id),
        "start_time": int(export.starts_at.timestamp()),
        "end_time": int(export.ends_at.timestamp()),
        "created_at": int(export.created_at.timestamp()),
        "completed_at": None if completed is None else int(completed.timestamp()),
        "expires_at": int((export.created_at + service.KEPT).timestamp()),
    }


def _linked(export: Export, part: ExportPart, settings: Settings, key: bytes, expires: int) -> ExportedPart:
    query = signed_query(key, export.organization_id, export.id, part.number, expires)
    return ExportedPart(
        name=_name(export, part.number),
        rows=part.rows,
        bytes=part.size,
        sha256=part.sha256,
        sums=part.sums,
        url=f"{settings.public_url}{part_path(export.id, part.number)}?{query}",
        expires_at=expires,
    )


router = Router(
    path="/v1/organization",
    route_handlers=[
        Router(
            path="/",
            route_handlers=[create_export, list_exports, get_export],
            dependencies={"principal": Provide(require_scope("admin"))},
        ),
        download_part,
    ],
    tags=["Exports"],
)
