"""mirrord as a service, in a container of Debian 12 with systemd."""

import json
import os
import re
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar
from unittest import SkipTest, skipIf
from urllib.request import urlopen

from tests.integration.case import MB, MirrorCase
from tests.integration.client import Reading, pull
from tests.integration.container import Container, ContainerUnavailable, missing
from tests.integration.daemon import ROOT, Settings, free_port

RESTART_SECONDS = 2
"""RestartSec of the unit."""

START_SECONDS = 30
"""The time for a start beyond that, on two busy cores."""


def readme_commands() -> list[str]:
    """Return the two commands of README's section on the service."""
    (block,) = re.findall(r"```sh\n(apt-get install .*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return str(block).strip().splitlines()


class ContainerCase(MirrorCase):
    """One container per class, and a fake registry per test."""

    container: ClassVar[Container]
    options: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        try:
            cls.container = Container.start(*cls.options)
        except ContainerUnavailable as error:
            raise SkipTest(str(error)) from None
        cls.addClassCleanup(cls.container.stop)

    def show(self, name: str) -> str:
        """Return a property of the unit."""
        return self.container.run(f"systemctl show mirrord --value --property={name}").strip()


# Sends requests until its standard input is closed, and prints how many succeeded and how many failed.
_CLIENT = """
import sys, threading, urllib.request
over, succeeded, failed = threading.Event(), 0, 0
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
while not over.is_set():
    try:
        succeeded += urllib.request.urlopen("http://{address}/v2/", timeout=30).status == 200
    except OSError as error:
        failed += 1
        print(error, file=sys.stderr)
print(succeeded, failed)
"""


@skipIf(missing() is not None, missing() or "")
class InstallationTests(ContainerCase):
    options = ("--private-network",)

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        install, _ = readme_commands()
        cls.container.run(install)

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(
            self.container.execute, "/opt/mirrord/bin/mirrord install-service --uninstall --purge"
        )

    def test_two_commands(self) -> None:
        """README's two commands install a service that runs, is enabled, and can be removed completely."""
        _, start = readme_commands()
        self.container.run(start)
        self.assertEqual(self.container.run("systemctl is-active mirrord"), "active\n")
        self.assertEqual(self.container.run("systemctl is-enabled mirrord"), "enabled\n")
        self.assertIn("downloads running", self.show("StatusText"))
        self.assertIn("mirrord", self.container.run("mirrord --version"))
        self.assertEqual(self.container.execute("systemd-analyze verify mirrord.service").stderr, "")
        self.container.run("echo '# mine' >> /etc/mirrord/mirrord.toml")
        self.assertIn("left    /etc/mirrord/mirrord.toml", self.container.run(start))
        self.assertIn("# mine", self.container.run("cat /etc/mirrord/mirrord.toml"))
        self.assertIn("/var/cache/mirrord", self.container.run("mirrord install-service --uninstall"))
        self.assertEqual(self.container.execute("systemctl is-active mirrord").stdout, "inactive\n")
        self.container.run("/opt/mirrord/bin/mirrord install-service --uninstall --purge")
        left = "find /etc /var /usr/local -name '*mirrord*' -not -path '*/journal/*'; getent passwd mirrord"
        self.assertEqual(self.container.execute(left).stdout, "")

    def test_only_root(self) -> None:
        """Without root the command fails with one line, but a dry run lists what would be done."""
        command = "setpriv --reuid=65534 --clear-groups /opt/mirrord/bin/mirrord install-service"
        refused = self.container.execute(command)
        self.assertEqual(
            (refused.returncode, refused.stdout, refused.stderr.count("\n")), (1, "", 1), refused
        )
        self.assertIn("only root", refused.stderr)
        self.assertIn("$ systemctl enable mirrord.service", self.container.run(f"{command} --dry-run"))

    def test_a_port_that_stays_open(self) -> None:
        """With --socket a restart refuses no connection, and the address can be changed as documented."""
        self.container.run("/opt/mirrord/bin/mirrord install-service --socket --now")
        self.assertEqual(self.container.run("systemctl is-active mirrord.socket mirrord"), "active\nactive\n")
        with self.container.open(f"python3 -c '{_CLIENT.format(address='127.0.0.1:5000')}'") as client:
            for _ in range(3):
                self.container.run("systemctl restart mirrord")
            output, errors = client.communicate(timeout=120)
        succeeded, failed = map(int, output.split())
        self.assertEqual(failed, 0, errors)
        self.assertGreater(succeeded, 10)
        folder = "/etc/systemd/system/mirrord.socket.d"
        lines = "[Socket]\\nListenStream=\\nListenStream=127.0.0.2:5002\\n"
        self.container.run(f"mkdir {folder} && printf '{lines}' > {folder}/override.conf")
        self.container.run("systemctl daemon-reload && systemctl restart mirrord.socket mirrord")
        code = 'import urllib.request as u; u.urlopen("http://127.0.0.2:5002/v2/", timeout=30)'
        self.container.run(f"python3 -c '{code}'")


@skipIf(missing() is not None, missing() or "")
class ServiceTests(ContainerCase):
    port: ClassVar[int]
    admin_port: ClassVar[int]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.port, cls.admin_port = free_port(), free_port()
        folder = cls.container.root / "etc/mirrord"
        folder.mkdir()
        folder.joinpath("mirrord.toml").write_text(cls.configuration("http://127.0.0.1:9"))
        for command in readme_commands():
            cls.container.run(command)

    @classmethod
    def configuration(cls, upstream: str) -> str:
        """Return a configuration with the store in the unit's cache directory."""
        return Settings(upstream).toml(Path("/var/cache/mirrord"), cls.port, cls.admin_port)

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.assert_clean_journal)
        self.write_config(self.configuration(self.registry.url))
        self.container.run("systemctl restart mirrord")

    def assert_clean_journal(self) -> None:
        """Check that the journal has no traceback."""
        journal = self.container.run("journalctl --unit=mirrord --output=cat")
        self.assertNotRegex(journal, "Traceback|Unhandled|Exception ignored")

    def write_config(self, text: str) -> None:
        """Write the configuration file, for the next start or reload."""
        (self.container.root / "etc/mirrord/mirrord.toml").write_text(text)

    def url(self, path: str) -> str:
        """Return the URL of a path in the repository."""
        return f"http://127.0.0.1:{self.port}/v2/library/app/{path}"

    def entries_of(self, digest: str) -> list[dict[str, str]]:
        """Return the journal's entries for a digest."""
        lines = self.container.run("journalctl --unit=mirrord --output=json").splitlines()
        return [entry for entry in map(json.loads, lines) if entry.get("MIRRORD_DIGEST") == digest]

    def restarts(self) -> int:
        return int(self.show("NRestarts"))

    def assert_restarted(self, before: int, seconds: float) -> None:
        """Wait until the service has been restarted once more than `before`, and is active."""
        self.wait_until(
            lambda: self.restarts() == before + 1 and self.show("ActiveState") == "active",
            seconds,
            "a restart",
        )

    def test_a_pull_is_in_the_journal(self) -> None:
        """The journal has one entry per pull, with its fields."""
        image = self.registry.put_image(MB, tag="logged")
        self.assert_right(pull(self.url("manifests/logged")), image.manifest)
        self.wait_until(lambda: bool(self.entries_of(image.manifest.digest)), what="an entry")
        (entry,) = self.entries_of(image.manifest.digest)
        self.assertEqual(entry["MIRRORD_REPOSITORY"], "library/app")
        self.assertEqual(entry["MIRRORD_UPSTREAM"], "docker.io")
        self.assertEqual(entry["MIRRORD_CLIENT"], "127.0.0.1")
        self.assertEqual(entry["PRIORITY"], "6")
        self.assertEqual(entry["SYSLOG_IDENTIFIER"], "mirrord")
        self.assertEqual(entry["_SYSTEMD_UNIT"], "mirrord.service")

    def test_a_reload_keeps_a_pull_alive(self) -> None:
        """A pull is completed after `systemctl reload`, by the same process."""
        blob = self.registry.put_image(8 * MB, seed=2).layer
        self.registry.throttle(4 * MB)
        first = self.show("MainPID")
        with ThreadPoolExecutor(1) as pool:
            reading = Reading.open(self.url(f"blobs/{blob.digest}"))
            reading.read_until(MB)
            rest = pool.submit(reading.read_all)
            self.container.run("systemctl reload mirrord")
            self.assert_right(rest.result(), blob)
        self.assertEqual(self.show("MainPID"), first)
        self.assertEqual(self.show("ActiveState"), "active")

    def test_tls(self) -> None:
        """TLS works in the unit's sandbox, with a key that only the service can read."""
        self.container.run("mirrord self-signed --force --out /etc/mirrord/tls localhost")
        port = free_port()
        listener = f"""
            [[listen]]
            endpoint = "tcp:{port}:interface=127.0.0.1"
            certificate = "/etc/mirrord/tls/fullchain.pem"
            key = "/etc/mirrord/tls/privkey.pem"
        """
        self.write_config(self.configuration(self.registry.url) + listener)
        self.container.run("systemctl restart mirrord")
        context = ssl.create_default_context(cafile=self.container.root / "etc/mirrord/tls/fullchain.pem")
        with urlopen(f"https://localhost:{port}/v2/", timeout=30, context=context) as response:
            self.assertEqual(response.status, 200)

    def test_a_credential(self) -> None:
        """A password in systemd's credential store reaches the service, and only from there."""
        stored = self.container.root / "etc/credstore/dockerhub-password"
        stored.parent.mkdir(mode=0o700, exist_ok=True)
        stored.write_text("correct horse")
        stored.chmod(0o600)
        account = '[[upstream.account]]\nusername = "me"\npassword_file = "credential:dockerhub-password"\n'
        registry = f'[[upstream]]\nname = "own"\nurl = "{self.registry.url}"\n'
        self.write_config(self.configuration(self.registry.url) + registry + account)
        self.container.run("systemctl restart mirrord")
        stored.unlink()
        failed = self.container.execute("systemctl restart mirrord")
        self.assertNotEqual(failed.returncode, 0, "started without its password")

    def test_limits(self) -> None:
        """The service is limited to three quarters of the memory, and uses less than half of its tasks."""
        blob = self.registry.put_image(MB, seed=5).layer
        self.assert_right(pull(self.url(f"blobs/{blob.digest}")), blob)
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self.assertEqual(round(100 * int(self.show("MemoryMax")) / physical), 75)
        self.assertEqual(self.show("TasksMax"), "64")
        threads = self.container.run(f"ls /proc/{self.show('MainPID')}/task").split()
        self.assertLess(len(threads), 32)

    def test_killed(self) -> None:
        """After `kill -9` the service is restarted after RestartSec, and cached content is intact."""
        blob = self.registry.put_image(MB, seed=3).layer
        self.assert_right(pull(self.url(f"blobs/{blob.digest}")), blob)
        status = f"http://127.0.0.1:{self.admin_port}/status"
        self.wait_until(lambda: not json.loads(pull(status).body)["downloads"], what="the commit")
        before = self.restarts()
        self.container.run(f"kill -9 {self.show('MainPID')}")
        self.assert_restarted(before, RESTART_SECONDS + START_SECONDS)
        self.registry.down()
        self.assert_right(pull(self.url(f"blobs/{blob.digest}")), blob)

    def test_a_blocked_reactor(self) -> None:
        """A daemon whose reactor is blocked is restarted by the watchdog."""
        folder = "/run/systemd/system/mirrord.service.d"
        self.addCleanup(self.container.run, f"rm -r {folder} && systemctl daemon-reload")
        self.container.run(f"mkdir -p {folder} && printf '[Service]\\nWatchdogSec=4\\n' > {folder}/soon.conf")
        self.container.run("systemctl daemon-reload && systemctl restart mirrord")
        time.sleep(9)
        self.assertEqual(self.restarts(), 0, "a responsive daemon was restarted")
        self.container.run(f"kill -STOP {self.show('MainPID')}")
        self.assert_restarted(0, 4 + RESTART_SECONDS + START_SECONDS)
        self.assertIn("Watchdog timeout", self.container.run("journalctl --unit=mirrord"))

    def test_a_reboot(self) -> None:
        """After a reboot the service is started, and cached content is intact."""
        image = self.registry.put_image(MB, seed=4, tag="cached")
        self.assert_right(pull(self.url("manifests/cached")), image.manifest)
        self.assert_right(pull(self.url(f"blobs/{image.layer.digest}")), image.layer)
        self.container.run("systemctl stop mirrord")
        self.registry.down()
        self.container.reboot()
        self.assertEqual(self.container.run("systemctl is-active mirrord"), "active\n")
        self.assert_right(pull(self.url("manifests/cached")), image.manifest)
        self.assert_right(pull(self.url(f"blobs/{image.layer.digest}")), image.layer)
