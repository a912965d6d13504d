"""Configurations of access control, with the defaults of everything else."""

from pathlib import Path

from mirrord.config.access import AccessConfig
from mirrord.config.config import Config, HostedConfig, StoreConfig


def configuration(access: AccessConfig | None = None, *, push_from_loopback: bool = False) -> Config:
    """Return a configuration with these rules, and the built-in upstreams."""
    hosted = HostedConfig(push_from_loopback=push_from_loopback)
    return Config(store=StoreConfig(Path("/store")), access=access, hosted=hosted)
