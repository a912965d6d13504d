"""A generation is built without touching the one in effect, and changes everything when it is installed."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
from twisted.internet import reactor as global_reactor
from twisted.trial.unittest import TestCase

from mirrord.config.access import AccessConfig, RuleConfig
from mirrord.config.config import (
    Config,
    ConfigError,
    GCConfig,
    HostedConfig,
    ListenConfig,
    LogConfig,
    StoreConfig,
    UpstreamConfig,
)
from mirrord.daemon.generation import Generation
from mirrord.daemon.runtime import Runtime
from mirrord.http.site import ConnectionLimits
from mirrord.observe.logs import Logs

X, Y = UpstreamConfig(name="x.io", url="https://x.io"), UpstreamConfig(name="y.io", url="https://y.io")


class GenerationTests(TestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.config = Config(store=StoreConfig(self.folder), upstream=(X, Y))
        reactor: Any = global_reactor
        logs = Logs.of_process({})
        self.runtime = Runtime.open(
            self.config, reactor=reactor, environment={"STATE_DIRECTORY": str(self.folder)}, logs=logs
        )
        for pool in self.runtime.pools:
            pool.start()
            self.addCleanup(pool.stop)
        self.addCleanup(self.runtime.store.close)
        self.generation = Generation.build(self.runtime, self.config)

    def test_build(self) -> None:
        """Building a generation installs no client, no root and no limit."""
        self.assertEqual({}, self.runtime.upstreams)
        limits, interval = self.runtime.collector.limits, GCConfig(unused_for=1.0, interval=2.0)

        Generation.build(self.runtime, attrs.evolve(self.config, gc=interval))

        self.assertEqual({}, self.runtime.upstreams)
        self.assertIs(limits, self.runtime.collector.limits)

    def test_install(self) -> None:
        """An installed generation sets each site's root and limits, the access log and the limits of gc."""
        config = attrs.evolve(
            self.config,
            listen=(ListenConfig(stall_timeout=1.0),),
            hosted=HostedConfig(upload_timeout=2.0),
            gc=GCConfig(unused_for=3.0),
            log=LogConfig(access=self.folder / "access.log"),
        )
        generation = Generation.build(self.runtime, config)

        generation.install(self.runtime)

        (listener,), (root,) = self.runtime.listeners, generation.roots
        self.assertIs(root, listener.site.resource)
        self.assertEqual(ConnectionLimits(stall_seconds=1.0, upload_seconds=2.0), listener.site.limits)
        self.assertEqual(3.0, self.runtime.collector.limits.unused_for_seconds)
        self.assertEqual(self.folder / "access.log", self.runtime.access_log.path)

    def test_unchanged_upstream(self) -> None:
        """An unchanged upstream keeps its client, a changed one gets another when it is installed."""
        self.generation.install(self.runtime)
        before = dict(self.runtime.upstreams)
        changed = attrs.evolve(Y, url="https://mirror.y.io")

        generation = Generation.build(self.runtime, attrs.evolve(self.config, upstream=(X, changed)))

        self.assertEqual(before, self.runtime.upstreams)
        generation.install(self.runtime)
        self.assertIs(before["x.io"], self.runtime.upstreams["x.io"])
        self.assertIsNot(before["y.io"], self.runtime.upstreams["y.io"])
        self.assertEqual(changed, self.runtime.upstreams["y.io"].config)

    def test_removed_upstream(self) -> None:
        """The client of a removed upstream stays for the downloads that still read from it."""
        self.generation.install(self.runtime)
        generation = Generation.build(self.runtime, attrs.evolve(self.config, upstream=(X,)))

        generation.install(self.runtime)

        self.assertEqual({"x.io"}, set(generation.upstreams))
        self.assertEqual({"x.io", "y.io"}, set(self.runtime.upstreams))

    def test_new_upstream(self) -> None:
        """The metrics of an upstream that a reload adds have samples at once."""
        self.generation.install(self.runtime)
        new = UpstreamConfig(name="z.io", url="https://z.io")

        Generation.build(self.runtime, attrs.evolve(self.config, upstream=(new,))).install(self.runtime)

        registry = self.runtime.metrics.registry
        self.assertEqual(0.0, registry.get_sample_value("mirrord_upstream_turned_away", {"upstream": "z.io"}))

    def test_unreadable_users(self) -> None:
        """Users that cannot be read are an error of the configuration, and nothing has changed."""
        self.generation.install(self.runtime)
        before = dict(self.runtime.upstreams)
        changed = attrs.evolve(Y, url="https://mirror.y.io")
        access = AccessConfig(htpasswd=self.folder / "absent", rules=(RuleConfig(repositories=("*",)),))
        config = attrs.evolve(self.config, upstream=(X, changed), access=access)

        error = self.assertRaises(ConfigError, Generation.build, self.runtime, config)

        self.assertIn("access: ", error.lines[0])
        self.assertEqual(before, self.runtime.upstreams)
