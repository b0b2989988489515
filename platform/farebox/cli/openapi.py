"""`farebox openapi`."""

import rich_click as click

from farebox.app import create_app
from farebox.cli.operation import answer_json
from farebox.core.settings import load_settings
from farebox.gateway.operations.api_document import api_document


@click.command()
def openapi() -> None:
    """Print the OpenAPI document; no database is needed."""
    application = create_app(load_settings(), database_url="postgresql://unused")
    answer_json(api_document(application))
