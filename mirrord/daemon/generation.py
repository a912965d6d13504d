"""Generation: one configuration in effect.

A reload builds a generation beside the current one and then installs it. Running requests finish on the
objects of the generation that they began with; downloads belong to the runtime and continue.
"""

from collections.abc import Mapping

import attrs

from mirrord.access.authenticator import Authenticator
from mirrord.admin.operations import Operations
from mirrord.api.root import APIResource, RegistryRoot
from mirrord.config.config import Config, ConfigError
from mirrord.daemon.admin import build_operations
from mirrord.daemon.repositories import build_router
from mirrord.daemon.runtime import Runtime, gc_limits
from mirrord.http.site import ConnectionLimits
from mirrord.routing import Router
from mirrord.upstream.client import UpstreamClient


@attrs.frozen(eq=False, kw_only=True)
class Generation:
    """One configuration in effect, immutable once built.

    `roots` has the root resource of each listener, in the order of `config.listen`; `operations` are the
    operator's use cases.
    """

    config: Config
    upstreams: Mapping[str, UpstreamClient]
    roots: tuple[RegistryRoot, ...]
    operations: Operations

    @classmethod
    def build(cls, runtime: Runtime, config: Config) -> "Generation":
        """Build the generation of `config` beside the one in effect, which does not change.

        Raises:
            ConfigError: The users cannot be read, or the token key can neither be read nor written.
        """
        upstreams = runtime.clients(config)
        router = build_router(runtime, config, upstreams)
        operations = build_operations(runtime, config, router)
        authenticator = _authenticator(runtime, config, router)
        roots = (
            RegistryRoot(
                APIResource(
                    router=router,
                    authenticator=authenticator,
                    default=listen.upstream,
                    metrics=runtime.metrics,
                    pages=runtime.pages,
                    last_clients=runtime.last_clients,
                    clock=runtime.reactor,
                    is_debugging=lambda: runtime.logs.is_debugging,
                )
            )
            for listen in config.listen
        )
        return cls(config=config, upstreams=upstreams, roots=tuple(roots), operations=operations)

    def install(self, runtime: Runtime) -> None:
        """Put this generation into effect."""
        config = self.config
        runtime.use_clients(self.upstreams)
        for listener, root, listen in zip(runtime.listeners, self.roots, config.listen, strict=True):
            listener.site.resource = root
            listener.site.limits = ConnectionLimits(
                stall_seconds=listen.stall_timeout, upload_seconds=config.hosted.upload_timeout
            )
        runtime.logs.configure(config.log.format, config.log.level)
        runtime.access_log.path = config.log.access
        runtime.collector.configure(gc_limits(config), config.gc.interval)


def _authenticator(runtime: Runtime, config: Config, router: Router) -> Authenticator:
    try:
        return runtime.access.authenticator(config, router.resolve_scope)
    except OSError as error:
        raise ConfigError([f"access: {error}"]) from None
