"""`/docs`: the API reference, to read and to try. Swagger UI draws it from `/schema`."""

from litestar import Response, get

from farebox.dashboard.pages import page

# Tags of the document that are for operators and their pages: a customer calls none of these.
NOT_FOR_CUSTOMERS = ("Accounts", "Operations")


@get("/docs")
async def reference_page() -> Response[str]:
    return page("reference.html", without=NOT_FOR_CUSTOMERS)
