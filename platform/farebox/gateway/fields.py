"""Types of fields that the bodies of several inference endpoints have."""

from typing import Annotated

from msgspec import Meta, Raw, UnsetType

ModelName = Annotated[str, Meta(min_length=1, max_length=256)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
# Any JSON, of which nothing is built: as objects, it may take thirty times the memory.
Undecoded = Raw | UnsetType
