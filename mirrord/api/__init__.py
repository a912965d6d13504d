"""The v2 API over HTTP."""
