"""`make bench`: what metering costs, measured against a bare Litestar handler in the same run."""
