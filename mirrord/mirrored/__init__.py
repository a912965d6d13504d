"""Repositories whose content is pulled from upstreams, and the ports to disk and network."""
