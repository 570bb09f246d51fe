"""The router, and all that drives the step machine live."""
