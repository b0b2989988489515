"""`/docs`: the API reference, to read and to try. Swagger UI draws it from `/schema`."""

from litestar import Response, get

from farebox.dashboard.pages import page


@get("/docs")
async def reference_page() -> Response[str]:
    return page("reference.html")
