"""Repositories whose content is pushed to this registry."""
