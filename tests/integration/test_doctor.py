"""`mirrord doctor` with a real daemon and a registry that behaves like Docker Hub."""

import base64
import json
import socket
from pathlib import Path

from tests.fakes.state import RegistryBehavior
from tests.integration.activated import ActivatedDaemon
from tests.integration.case import MirrorCase
from tests.integration.command import Ended, mirrord
from tests.integration.daemon import Daemon, Settings
from tests.integration.pushing import PUSHABLE, Pusher


def levels(ended: Ended) -> dict[str, str]:
    """Return the worst level of each subject."""
    order = ["ok", "warn", "fail"]
    worst: dict[str, str] = {}
    for line in ended.lines:
        result = json.loads(line)
        worst[result["subject"]] = max(worst.get(result["subject"], "ok"), result["level"], key=order.index)
    return worst


def texts(ended: Ended, subject: str) -> list[str]:
    """Return the texts of a subject."""
    return [result["text"] for line in ended.lines if (result := json.loads(line))["subject"] == subject]


class DoctorCase(MirrorCase):
    def run_doctor(self, config: Path, *arguments: str) -> Ended:
        """Run the doctor; a proxy that refuses connections keeps it from real registries."""
        return mirrord(
            "doctor", *arguments, "--config", str(config), home=self.folder,
            HTTPS_PROXY="http://127.0.0.1:9", NO_PROXY="127.0.0.1,127.0.0.2",
        )  # fmt: skip

    def config(self, daemon: Daemon) -> Path:
        return daemon.folder / "mirrord.toml"


class DoctorTests(DoctorCase):
    def test_working(self) -> None:
        """A working mirror passes all checks, including a pull; other upstreams may be unreachable."""
        self.registry.put_image(30_000, repository="library/hello-world")
        self.registry.put_image(10, repository="ratelimitpreview/test")
        daemon = self.start_daemon()
        ended = self.run_doctor(self.config(daemon), "--json")
        self.assertEqual((ended.status, ended.err), (0, ""), ended.out)
        found = levels(ended)
        for subject in ("configuration", "daemon", "port", "disk", "permissions", "clock", "quota", "pull"):
            self.assertEqual(found[subject], "ok", ended.out)
        self.assertEqual(found["upstream"], "warn")
        self.assertIn("docker.io responds in", texts(ended, "upstream")[0])
        self.assertIn("pulls left", texts(ended, "quota")[0])
        self.assertIn("library/hello-world", texts(ended, "pull")[0])

    def test_hosted(self) -> None:
        """The pull goes through the mirror, even if a smaller image is hosted."""
        self.registry.put_image(30_000, repository="library/hello-world")
        daemon = self.start_daemon(more=PUSHABLE + 'repositories = ["team/*"]\n')
        pusher = Pusher(daemon.port)
        self.addCleanup(pusher.close)
        pusher.push_image("team/app", "1", b"a layer")
        ended = self.run_doctor(self.config(daemon), "--json")
        self.assertEqual((ended.status, ended.err), (0, ""), ended.out)
        self.assertIn("library/hello-world", texts(ended, "pull")[0])

    def test_port_of_systemd(self) -> None:
        """The address of a port passed by systemd is that in the daemon's status."""
        self.registry.put_image(30_000, repository="library/hello-world")
        daemon = ActivatedDaemon(self.folder / "activated", Settings(self.registry.url))
        self.addCleanup(daemon.close)
        daemon.start()
        ended = self.run_doctor(daemon.folder / "mirrord.toml", "--json")
        self.assertEqual((levels(ended).get("port"), levels(ended)["pull"]), ("ok", "ok"), ended.out)

    def test_it_costs_no_pull(self) -> None:
        """The quota is requested by HEAD, which does not count as a pull."""
        self.registry.put_image(10, repository="ratelimitpreview/test")
        daemon = self.start_daemon()
        daemon.stop()
        self.registry.forget()
        self.run_doctor(self.config(daemon))
        requests = self.registry.journal.requests(match="ratelimitpreview/test/manifests")
        self.assertEqual({request.method for request in requests}, {"HEAD"})

    def test_no_daemon(self) -> None:
        """Without a daemon it fails, suggests how to start it, and reports whether the port is free."""
        daemon = self.start_daemon()
        daemon.stop()
        ended = self.run_doctor(self.config(daemon))
        self.assertEqual(ended.status, 1)
        self.assertIn("systemctl start mirrord", ended.out)
        self.assertIn("is free", ended.out)
        with socket.create_server(("127.0.0.1", daemon.port)):
            self.assertIn("is in use by another process", self.run_doctor(self.config(daemon)).out)

    def test_no_upstream(self) -> None:
        """An unreachable upstream and the pull that fails because of it are reported, with advice."""
        daemon = self.start_daemon()
        self.registry.down()
        ended = self.run_doctor(self.config(daemon), "--json")
        self.assertEqual(ended.status, 1)
        self.assertEqual((levels(ended)["upstream"], levels(ended)["pull"]), ("fail", "fail"))
        self.assertTrue(all(json.loads(line)["advice"] for line in ended.lines if '"ok"' not in line))

    def test_invalid_configuration(self) -> None:
        """With an invalid configuration nothing else is checked."""
        config = self.folder / "bad.toml"
        config.write_text("[gc]\ninterval = 1\n")
        ended = self.run_doctor(config)
        self.assertEqual(ended.status, 1)
        self.assertIn("gc.interval", ended.out)
        self.assertEqual(len([line for line in ended.lines if not line.startswith(" ")]), 1)

    def test_secrets(self) -> None:
        """A world-readable key or password is reported, but not shown."""
        password = self.folder / "password"
        password.write_text("sesame")
        password.chmod(0o644)
        tls = self.folder / "tls"
        mirrord("self-signed", "localhost", "--out", str(tls), "--days", "5", home=self.folder)
        (tls / "privkey.pem").chmod(0o644)
        config = self.folder / "mirrord.toml"
        config.write_text(
            f'[store]\npath = "{self.folder}/store"\n[admin]\nendpoint = "unix:{self.folder}/admin"\n'
            f'[[listen]]\nendpoint = "unix:{self.folder}/pull"\n'
            f'certificate = "{tls}/fullchain.pem"\nkey = "{tls}/privkey.pem"\n'
            f'[[upstream]]\nname = "docker.io"\nurl = "{self.registry.url}"\n'
            f'[[upstream.account]]\nusername = "me"\npassword_file = "{password}"\n'
        )
        ended = self.run_doctor(config, "--json")
        self.assertIn(f"{password} is world-readable", texts(ended, "permissions"))
        self.assertIn(f"{tls}/privkey.pem is world-readable", texts(ended, "certificate"))
        self.assertIn("is valid for localhost and expires in 4 days", texts(ended, "certificate")[0])
        self.assertNotIn("sesame", ended.out + ended.err)


class OwnRealmTests(DoctorCase):
    """Which token services receive the password."""

    behavior = RegistryBehavior(accounts={"me": "sesame"})

    def configure(self) -> Path:
        """Write a configuration with an account at the registry."""
        password = self.folder / "password"
        password.write_text("sesame")
        password.chmod(0o600)
        config = self.folder / "mirrord.toml"
        config.write_text(
            f'[store]\npath = "{self.folder}/store"\n[admin]\nendpoint = "unix:{self.folder}/admin"\n'
            f'[[upstream]]\nname = "docker.io"\nurl = "{self.registry.url}"\n'
            f'[[upstream.account]]\nusername = "me"\npassword_file = "{password}"\n'
        )
        return config

    def disclosed(self) -> list[str]:
        """Return the paths of the requests that contained the password."""
        secret = base64.b64encode(b"me:sesame").decode()
        requests = self.registry.journal.requests()
        return [each.target.partition("?")[0] for each in requests if secret in str(each.headers)]

    def test_quota_of_the_account(self) -> None:
        """The quota is that of the account; only the registry's own token service receives its password."""
        self.registry.put_image(10, repository="ratelimitpreview/test")
        ended = self.run_doctor(self.configure(), "--json")
        self.assertEqual(self.disclosed(), ["/token"])
        self.assertIn("100 of 100 pulls left in 6 hours, counted for", texts(ended, "quota")[0])
        self.assertNotIn("sesame", ended.out + ended.err)


class ForeignRealmTests(OwnRealmTests):
    hosts = ("127.0.0.1", "127.0.0.2", "127.0.0.1")

    def test_quota_of_the_account(self) -> None:
        """A token service on another host does not receive the password."""
        self.registry.put_image(10, repository="ratelimitpreview/test")
        self.run_doctor(self.configure(), "--json")
        self.assertEqual(self.disclosed(), [])
        self.assertIn("/token", str([request.target for request in self.registry.journal.requests()]))
