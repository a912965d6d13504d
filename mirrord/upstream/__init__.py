"""Clients of the registries we pull from: requests, tokens, redirects, bodies, the circuit breaker."""
