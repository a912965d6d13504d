"""The doctor, before a real daemon and a registry whose manners are Docker Hub's."""

import base64
import json
import socket
from pathlib import Path

from tests.fakes.scene import Manners
from tests.integration.activated import ActivatedDaemon
from tests.integration.case import MirrorCase
from tests.integration.command import Ended, mirrord
from tests.integration.daemon import Daemon, Settings


def levels(ended: Ended) -> dict[str, str]:
    """The worst that was found of each subject."""
    order = ["ok", "warn", "fail"]
    worst: dict[str, str] = {}
    for line in ended.lines:
        finding = json.loads(line)
        worst[finding["subject"]] = max(
            worst.get(finding["subject"], "ok"), finding["level"], key=order.index
        )
    return worst


def texts(ended: Ended, subject: str) -> list[str]:
    """What was found of a subject."""
    return [finding["text"] for line in ended.lines if (finding := json.loads(line))["subject"] == subject]


class DoctorCase(MirrorCase):
    def ask(self, config: Path, *arguments: str) -> Ended:
        """The doctor, who is kept from the registries of this world: a port that nobody has is his proxy."""
        return mirrord(
            "doctor", *arguments, "--config", str(config), home=self.folder,
            HTTPS_PROXY="http://127.0.0.1:9", NO_PROXY="127.0.0.1,127.0.0.2",
        )  # fmt: skip

    def config(self, daemon: Daemon) -> Path:
        return daemon.folder / "mirrord.toml"


class DoctorTests(DoctorCase):
    def test_well(self) -> None:
        """A mirror that works is found well, and proves it by a pull; other upstreams may be away."""
        self.registry.put_image(30_000, repository="library/hello-world")
        self.registry.put_image(10, repository="ratelimitpreview/test")
        daemon = self.start_daemon()
        ended = self.ask(self.config(daemon), "--json")
        self.assertEqual((ended.status, ended.err), (0, ""), ended.out)
        found = levels(ended)
        for subject in ("configuration", "daemon", "port", "disk", "permissions", "clock", "quota", "pull"):
            self.assertEqual(found[subject], "ok", ended.out)
        self.assertEqual(found["upstream"], "warn")
        self.assertIn("docker.io answers in", texts(ended, "upstream")[0])
        self.assertIn("pulls left", texts(ended, "quota")[0])
        self.assertIn("library/hello-world", texts(ended, "pull")[0])

    def test_a_port_of_systemd(self) -> None:
        """A port that systemd holds is found by what the daemon says of it."""
        self.registry.put_image(30_000, repository="library/hello-world")
        daemon = ActivatedDaemon(self.folder / "activated", Settings(self.registry.url))
        self.addCleanup(daemon.close)
        daemon.start()
        ended = self.ask(daemon.folder / "mirrord.toml", "--json")
        self.assertEqual((levels(ended).get("port"), levels(ended)["pull"]), ("ok", "ok"), ended.out)

    def test_it_costs_no_pull(self) -> None:
        """The quota is asked for by HEAD, which no registry counts."""
        self.registry.put_image(10, repository="ratelimitpreview/test")
        daemon = self.start_daemon()
        daemon.stop()
        self.registry.forget()
        self.ask(self.config(daemon))
        asked = self.registry.journal.requests(match="ratelimitpreview/test/manifests")
        self.assertEqual({seen.method for seen in asked}, {"HEAD"})

    def test_no_daemon(self) -> None:
        """Without a daemon it fails, says how to start one, and finds its port free or taken."""
        daemon = self.start_daemon()
        daemon.stop()
        ended = self.ask(self.config(daemon))
        self.assertEqual(ended.status, 1)
        self.assertIn("systemctl start mirrord", ended.out)
        self.assertIn("is free", ended.out)
        with socket.create_server(("127.0.0.1", daemon.port)):
            self.assertIn("somebody else listens", self.ask(self.config(daemon)).out)

    def test_no_upstream(self) -> None:
        """An upstream that is away is found, and so is the pull that fails for it; what to do is said."""
        daemon = self.start_daemon()
        self.registry.down()
        ended = self.ask(self.config(daemon), "--json")
        self.assertEqual(ended.status, 1)
        self.assertEqual((levels(ended)["upstream"], levels(ended)["pull"]), ("fail", "fail"))
        self.assertTrue(all(json.loads(line)["advice"] for line in ended.lines if '"ok"' not in line))

    def test_a_bad_configuration(self) -> None:
        """A configuration that cannot be used is all that is looked at."""
        config = self.folder / "bad.toml"
        config.write_text("[gc]\ninterval = 1\n")
        ended = self.ask(config)
        self.assertEqual(ended.status, 1)
        self.assertIn("gc.interval", ended.out)
        self.assertEqual(len([line for line in ended.lines if not line.startswith(" ")]), 1)

    def test_secrets(self) -> None:
        """A key or a password that everybody may read is warned of, and not shown."""
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
        ended = self.ask(config, "--json")
        self.assertIn(f"everybody may read {password}", texts(ended, "permissions"))
        self.assertIn(f"everybody may read {tls}/privkey.pem", texts(ended, "certificate"))
        self.assertIn("is for localhost, for 4 days more", texts(ended, "certificate")[0])
        self.assertNotIn("sesame", ended.out + ended.err)


class OwnRealmTests(DoctorCase):
    """Who hears our password from the doctor."""

    manners = Manners(accounts={"me": "sesame"})

    def configure(self) -> Path:
        """A configuration with an account at the registry."""
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

    def told(self) -> list[str]:
        """The paths at which our password was heard."""
        secret = base64.b64encode(b"me:sesame").decode()
        seen = self.registry.journal.requests()
        return [one.target.partition("?")[0] for one in seen if secret in str(one.headers)]

    def test_quota_of_the_account(self) -> None:
        """The quota is the account's: the registry's own token service hears its password, nobody else."""
        self.registry.put_image(10, repository="ratelimitpreview/test")
        ended = self.ask(self.configure(), "--json")
        self.assertEqual(self.told(), ["/token"])
        self.assertIn("100 of 100 pulls left in 6 hours, counted for", texts(ended, "quota")[0])
        self.assertNotIn("sesame", ended.out + ended.err)


class ForeignRealmTests(OwnRealmTests):
    hosts = ("127.0.0.1", "127.0.0.2", "127.0.0.1")

    def test_quota_of_the_account(self) -> None:
        """A token service on another host does not hear the password."""
        self.registry.put_image(10, repository="ratelimitpreview/test")
        self.ask(self.configure(), "--json")
        self.assertEqual(self.told(), [])
        self.assertIn("/token", str([seen.target for seen in self.registry.journal.requests()]))
