"""Every command as a process, with an admin listener that responds as the daemon does."""

import json
import time

from tests.integration.command import CommandCase, mirrord

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32

REPOSITORY = {
    "upstream": "docker.io",
    "repository": "library/ubuntu",
    "name": "ubuntu",
    "tags": [{"tag": "24.04", "digest": DIGEST, "checked_at": 0, "fresh_until": 4e9, "is_held": True}],
    "manifests": 2,
    "blobs": 3,
    "bytes": 31_000_000,
    "last_used": 1.0,
}

STATUS = {
    "version": "1.2",
    "uptime_seconds": 90,
    "store": {"bytes": 2048, "entries": 3, "max_bytes": 4096},
    "saved": {"pulls": 7, "bytes": 1 << 30},
    "downloads": [
        {
            "digest": DIGEST,
            "source": "docker.io/library/ubuntu",
            "written": 1024,
            "size": 4096,
            "subscribers": 2,
            "bytes_per_second": 512,
        }
    ],
    "listeners": [{"endpoint": "tcp:5000", "connections": 3, "trouble": "the certificate has expired"}],
    "upstreams": [
        {
            "name": "docker.io",
            "manifests": "open",
            "manifests_wait_seconds": 3.0,
            "others": "closed",
            "others_wait_seconds": 0.0,
            "quota": {"limit": 100, "remaining": 7},
            "last_error": "the upstream is busy",
        }
    ],
    "last_sweep": None,
}

PULLED = [
    {
        "event": "resolved",
        "reference": "ubuntu",
        "digest": DIGEST,
        "upstream": "docker.io",
        "repository": "l/u",
    },
    {"event": "manifest", "digest": DIGEST, "platform": "linux/amd64"},
    {"event": "blob", "digest": OTHER, "size": 2048, "written": 1024, "is_held": False},
    {"event": "blob", "digest": OTHER, "size": 2048, "written": 2048, "is_held": False},
    {"event": "done", "manifests": 1, "blobs": 1, "bytes": 2048, "fetched_bytes": 1024, "seconds": 1.5},
]
PULL_FAILED = {"event": "failed", "message": "the upstream has no such tag", "code": "MANIFEST_UNKNOWN"}


class StatusTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.admin.respond("GET", "/status", STATUS)
        self.admin.respond("GET", "/readyz", {"ready": True, "checks": {"store": "ok"}})

    def test_once(self) -> None:
        """Without a terminal the status is printed once: upstreams, quota, store, downloads, savings."""
        ended = self.mirrord("status")
        self.assert_well(ended)
        for word in (
            "up for 1 minute, ready",
            "2.0 KiB of 4.0 KiB in 3 entries",
            "7 pulls and 1.0 GiB",
            "3 connections: the certificate has expired",
            "open for 3 seconds",
            "7 of 100",
            "1 download running",
            "abababababab",
            "1.0 KiB of 4.0 KiB",
            "512 B/s",
            "2 clients",
        ):
            self.assertIn(word, ended.out)

    def test_quarantine(self) -> None:
        """Content in quarantine has a line of its own, even if nothing else is hosted."""
        hosted = {"bytes": 0, "entries": 0, "uploads": 0, "quarantine": {"bytes": 8192, "entries": 2}}
        self.admin.respond("GET", "/status", STATUS | {"hosted": hosted})
        ended = self.mirrord("status")
        self.assert_well(ended)
        self.assertRegex(ended.out, r"(?m)^quarantine +8\.0 KiB in 2 files")
        self.assertNotRegex(ended.out, "(?m)^hosted")

    def test_not_ready(self) -> None:
        """A failed check of /readyz is shown with its reason."""
        readiness = {"ready": False, "checks": {"store": "the disk is full"}}
        self.admin.respond("GET", "/readyz", readiness, 503)
        self.assertIn("not ready\nstore: the disk is full", self.mirrord("status").out)

    def test_json(self) -> None:
        """As JSON the status is the daemon's document, on one line."""
        ended = self.mirrord("status", "--json")
        self.assertEqual([json.loads(line) for line in ended.lines], [STATUS])

    def test_unknown_version(self) -> None:
        """A status without keys that this version expects is shown."""
        self.admin.respond("GET", "/status", {})
        self.assert_well(self.mirrord("status"))


class TerminalTests(CommandCase):
    """Output on a terminal."""

    def test_live(self) -> None:
        """On a terminal the status is updated until an interrupt; the exit status is then 130."""
        self.admin.respond("GET", "/status", STATUS)
        self.admin.respond("GET", "/readyz", {"ready": True, "checks": {}})
        terminal = self.open_terminal("status")
        terminal.read_until("1 download running")
        self.admin.respond("GET", "/status", {**STATUS, "downloads": []})
        terminal.read_until("0 downloads running")
        self.admin.stop()
        terminal.read_until("cannot connect to the daemon")
        self.admin.start()
        terminal.interrupt()
        self.assertEqual(terminal.wait(), 130)
        self.assertNotIn("Traceback", terminal.output)

    def test_bars(self) -> None:
        """On a terminal a blob is a bar while it is downloaded, and a line when it is complete."""
        self.admin.respond("POST", "/pull", [*PULLED[:3], 0.5, *PULLED[3:]])
        terminal = self.open_terminal("pull", "ubuntu")
        terminal.read_until("1.0/2.0 KiB")
        self.assertEqual(terminal.wait(), 0)
        self.assertIn("cdcdcdcdcdcd  2.0 KiB downloaded", terminal.output)


class LsTests(CommandCase):
    def test_list(self) -> None:
        """Each repository is a line with size and last use, followed by a line per tag."""
        self.admin.respond("GET", "/repositories", [REPOSITORY])
        ended = self.mirrord("ls", "ubu*")
        self.assert_well(ended)
        self.assertRegex(ended.lines[0], r"^ubuntu  29\.6 MiB in 3 blobs, used \d+ days ago$")
        self.assertRegex(ended.lines[1], r"^  24\.04  abababababab  fresh for \d+ days$")
        self.assertEqual(self.admin.requests[-1].query, {"pattern": "ubu*"})

    def test_json(self) -> None:
        """As JSON each repository is one line."""
        self.admin.respond("GET", "/repositories", [REPOSITORY, REPOSITORY])
        ended = self.mirrord("ls", "--json")
        self.assertEqual([json.loads(line) for line in ended.lines], [REPOSITORY, REPOSITORY])

    def test_nothing(self) -> None:
        """A pattern without a match exits with 4, an empty store with 0."""
        self.admin.respond("GET", "/repositories", [])
        self.assert_ended(self.mirrord("ls", "ghcr.io/*"), 4, "ghcr.io/*")
        self.assert_well(self.mirrord("ls"))


class ChangeTests(CommandCase):
    def test_rm(self) -> None:
        """The removed objects are listed."""
        self.admin.respond(
            "DELETE", "/repositories", {"removed": [{"reference": "ubuntu:24.04"}], "bytes": 1024}
        )
        ended = self.mirrord("rm", "ubuntu:24.04")
        self.assertEqual(ended.lines, ["removed ubuntu:24.04", "1.0 KiB freed"])
        self.assertEqual(self.admin.requests[-1].query, {"reference": "ubuntu:24.04"})

    def test_rm_hosted(self) -> None:
        """The output mentions that a sweep is needed to free the space of hosted content."""
        self.admin.respond("DELETE", "/repositories", {"removed": [{"digest": DIGEST}], "bytes": None})
        self.assertEqual(
            self.mirrord("rm", "team/app").lines, [f"removed {DIGEST}", "the next sweep will free the space"]
        )

    def test_rm_not_found(self) -> None:
        """A removal of something that is not stored exits with 4 and the daemon's message."""
        self.admin.reject("DELETE", "/repositories", 404, "not stored here")
        self.assert_ended(self.mirrord("rm", "nope"), 4, "not stored here")

    def test_gc(self) -> None:
        """A sweep reports what it evicted; a dry run lists what it would evict, and is requested as one."""
        victim = {"kind": "blob", "name": DIGEST, "bytes": 1 << 20, "idle_seconds": 7200.0}
        swept = {"is_dry_run": True, "entries": 1, "bytes": 1 << 20, "victims": [victim]}
        self.admin.respond("POST", "/sweep", swept)
        self.assertEqual(self.mirrord("gc").lines, ["evicted 1 entry, 1.0 MiB"])
        self.assertEqual(self.admin.requests[-1].query, {})
        planned = self.mirrord("gc", "--dry-run")
        self.assertEqual(self.admin.requests[-1].query, {"dry_run": "1"})
        self.assertEqual(
            planned.lines,
            [f"blob      {DIGEST}  1.0 MiB, unused for 2 hours", "would evict 1 entry, 1.0 MiB"],
        )
        self.assertEqual(json.loads(self.mirrord("gc", "--json").out), swept)

    def test_gc_hosted(self) -> None:
        """Deletions from hosted repositories are listed with the reason, and counted separately."""
        victims = [
            {"kind": kind, "repository": "team/app", "name": name, "reason": "hosted.keep[0]"}
            for kind, name in (("tag", "v1"), ("manifest", DIGEST))
        ]
        hosted = {"tags": 1, "manifests": 2, "blobs": 0, "uploads": 1, "entries": 3, "bytes": 1 << 20}
        swept = {"is_dry_run": True, "entries": 0, "bytes": 0, "victims": []}
        self.admin.respond("POST", "/sweep", swept | {"hosted": hosted | {"victims": victims}})
        self.assertEqual(
            self.mirrord("gc", "--dry-run").lines,
            [
                "tag       team/app:v1  hosted.keep[0]",
                f"manifest  team/app@{DIGEST}  hosted.keep[0]",
                "would delete 1 tag, 2 manifests, 1 upload of hosted repositories",
                "would delete 3 unreferenced hosted entries, 1.0 MiB",
                "would evict 0 entries, 0 B",
            ],
        )


class PullTests(CommandCase):
    def test_pull(self) -> None:
        """Without a terminal each blob is a line when it is complete."""
        self.admin.respond("POST", "/pull", PULLED)
        ended = self.mirrord("pull", "ubuntu", "--platform", "linux/arm64")
        self.assert_well(ended)
        self.assertEqual(
            ended.lines,
            [
                f"ubuntu resolves to docker.io/l/u@{DIGEST}",
                "  manifest abababababab  linux/amd64",
                "  blob     cdcdcdcdcdcd  2.0 KiB downloaded",
                "ubuntu: 2.0 KiB cached, 1.0 KiB of it downloaded in 1.5 s",
            ],
        )
        self.assertEqual(self.admin.requests[-1].query, {"reference": "ubuntu", "platform": "linux/arm64"})

    def test_json(self) -> None:
        """As JSON each event is one line."""
        self.admin.respond("POST", "/pull", PULLED)
        ended = self.mirrord("pull", "--json", "ubuntu")
        self.assertEqual([json.loads(line) for line in ended.lines], PULLED)

    def test_failure(self) -> None:
        """After a failed pull the next image is pulled; the exit status is 1."""
        self.admin.respond("POST", "/pull", [PULL_FAILED])
        ended = self.mirrord("pull", "a", "b")
        self.assertEqual(ended.status, 1)
        self.assertEqual(
            ended.err.splitlines(),
            [
                "mirrord: a: the upstream has no such tag",
                "mirrord: b: the upstream has no such tag",
                "mirrord: failed to pull a, b",
            ],
        )

    def test_lost_connection(self) -> None:
        """A lost connection exits with 3."""
        for broken in (PULLED[:2], [*PULLED[:2], None]):
            self.admin.respond("POST", "/pull", broken)
            self.assert_ended(self.mirrord("pull", "ubuntu"), 3, "lost connection to the daemon")


PROGRESS = {"event": "progress", "bytes": 1, "of_bytes": 2, "entries": 1, "of_entries": 2}
CORRUPT = {"event": "corrupt", "digest": DIGEST, "kind": "blob", "repositories": ["ubuntu"]}
VERIFIED = {"event": "done", "entries": 2, "bytes": 4096, "corrupt": 1, "fetched": 1, "seconds": 2.0}


class VerifyTests(CommandCase):
    def test_repaired(self) -> None:
        """Repaired content is listed, and the command succeeds."""
        fetched = {"event": "fetched", "digest": DIGEST}
        self.admin.respond("POST", "/verify", [PROGRESS, CORRUPT, fetched, VERIFIED])
        ended = self.mirrord("verify")
        self.assert_well(ended)
        self.assertEqual(
            ended.lines,
            [
                f"blob {DIGEST} is corrupt; used by ubuntu",
                f"{DIGEST} was downloaded again",
                "2 entries, 4.0 KiB hashed in 2 seconds: 1 corrupt, 1 downloaded again",
            ],
        )

    def test_lost(self) -> None:
        """Content that could not be repaired exits with 1, with and without JSON."""
        lost = {"event": "lost", "digest": DIGEST, "message": "the upstream is down"}
        self.admin.respond("POST", "/verify", [CORRUPT, lost, VERIFIED])
        self.assert_ended(self.mirrord("verify"), 1, "1 entry could not be repaired")
        self.assert_ended(self.mirrord("verify", "--json"), 1, "1 entry could not be repaired")


class WhyTests(CommandCase):
    def test_known(self) -> None:
        """The output has the upstream, the freshness of the tag, what is stored, and the last client."""
        explanation = {
            "reference": "ubuntu:24.04",
            "upstream": "docker.io",
            "repository": "library/ubuntu",
            "is_known": True,
            "tag": {"digest": DIGEST, "checked_at": 0, "fresh_until": time.time() + 61, "state": "fresh"},
            "manifest": {"digest": DIGEST, "media_type": "a/b", "size": 1024, "is_held": True},
            "blobs": [
                {"digest": OTHER, "size": 1024, "state": "held", "written": 1024},
                {"digest": DIGEST, "size": 1024, "state": "absent", "written": 0},
            ],
            "last_client": "10.0.0.7",
            "last_asked_at": time.time() - 30,
            "why_not": None,
        }
        self.admin.respond("GET", "/why", explanation)
        ended = self.mirrord("why", "ubuntu:24.04")
        self.assert_well(ended)
        for words in (
            "docker.io, repository library/ubuntu",
            f"{DIGEST}, fresh for 1 minute",
            "stored, a/b, 1.0 KiB",
            "1 stored, 1 not stored; 2.0 KiB",
            "30 seconds ago by 10.0.0.7",
        ):
            self.assertIn(words, ended.out)
        self.assertEqual(json.loads(self.mirrord("why", "--json", "ubuntu:24.04").out), explanation)

    def test_unknown(self) -> None:
        """The output has the reason for a refusal, and that the image was never requested."""
        explanation = {
            "reference": "x",
            "upstream": "docker.io",
            "repository": "x",
            "why_not": "deny forbids it",
        }
        self.admin.respond("GET", "/why", explanation)
        ended = self.mirrord("why", "x")
        self.assertIn("deny forbids it", ended.out)
        self.assertIn("never requested", ended.out)


class NoDaemonTests(CommandCase):
    """Commands without a daemon."""

    def test_no_daemon(self) -> None:
        """Without a daemon and a store, every command exits with 3 and one line."""
        self.admin.stop()
        for command in (["status"], ["ls"], ["rm", "x"], ["gc"], ["verify"], ["why", "x"], ["pull", "x"]):
            self.assert_ended(self.mirrord(*command), 3, f"at unix:{self.admin.path}")
        self.admin.start()

    def test_not_mirrord(self) -> None:
        """An unexpected response exits with 1."""
        self.admin.respond("GET", "/status", "hello")
        self.assert_ended(self.mirrord("status"), 1, "not mirrord")

    def test_bytes(self) -> None:
        """An argument that is not UTF-8 is sent unchanged."""
        self.admin.respond("GET", "/repositories", [])
        self.assert_ended(self.mirrord("ls", "\udcff"), 4, "no stored repository")

    def test_admin(self) -> None:
        """`--admin` is a path or an endpoint, before or after the command."""
        self.admin.respond("GET", "/repositories", [])
        for arguments in (["--admin", str(self.admin.path), "ls"], ["ls", "--admin", self.admin.endpoint]):
            self.assert_well(mirrord(*arguments, home=self.folder))

    def test_check_config(self) -> None:
        """It prints the effective configuration, or every error with its path and exits with 1."""
        good = self.mirrord("check-config")
        self.assert_well(good)
        self.assertIn(f'path = "{self.folder}/store"', good.out)
        self.configure("tcp:1", more='stall_timeout = 5\n[gc]\ninterval = "soon"\n')
        bad = self.mirrord("check-config")
        self.assertEqual(bad.status, 1)
        output = bad.err + bad.out
        self.assertIn("listen[0].stall_timeout", output)
        self.assertIn("gc.interval", output)

    def test_completion(self) -> None:
        """A shell gets a script, and the commands that match."""
        for shell in ("bash", "zsh", "fish"):
            ended = mirrord("completion", shell, home=self.folder)
            self.assertIn("_MIRRORD_COMPLETE", ended.out)
        completed = mirrord(
            home=self.folder, _MIRRORD_COMPLETE="zsh_complete", COMP_WORDS="mirrord st", COMP_CWORD="1"
        )
        self.assertEqual(completed.lines[:2], ["plain", "status"])

    def test_version(self) -> None:
        """The version is printed, in a checkout too."""
        ended = mirrord("--version", home=self.folder)
        self.assert_well(ended)
        self.assertRegex(ended.out, r"^mirrord \S+\n$")

    def test_closed_pipe(self) -> None:
        """A reader that closes the pipe after the first line causes no traceback."""
        self.admin.respond("GET", "/repositories", [REPOSITORY] * 2000)
        ended = self.mirrord("ls", "--json", reader="head -n 1")
        self.assertEqual((len(ended.lines), ended.err), (1, ""))


class UsageTests(CommandCase):
    def test_usage_errors(self) -> None:
        """A usage error exits with 2 and one line that names the cause."""
        for arguments, message in (
            ([], "missing command"),
            (["nope"], "'nope'"),
            (["ls", "--nope"], "--nope"),
            (["rm"], "'REFERENCE'"),
            (["pull"], "REFERENCE"),
            (["client", "nope"], "'nope'"),
            (["--config", "/nowhere", "ls"], "/nowhere"),
            (["self-signed"], "NAME"),
            (["self-signed", "https://x"], "https://x"),
            (["completion", "tcsh"], "'tcsh'"),
            (["client", "docker", "--mirror", "mirror.lan"], "--mirror"),
            (["client", "docker", "--mirror", "http://[::1"], "--mirror"),
            (["client", "podman", "--mirror", 'http://a"b:5000'], "--mirror"),
            (["client", "podman", "--ca", "/bin/sh"], "--ca"),
        ):
            self.assert_ended(mirrord(*arguments, home=self.folder), 2, message)

    def test_endpoint_without_address(self) -> None:
        """An endpoint without an address exits with 1 and suggests --admin."""
        self.assert_ended(mirrord("ls", "--admin", "systemd:index=0", home=self.folder), 1, "--admin")
