"""The operator's commands as requests to the socket of a running daemon."""

import json
from typing import Any
from urllib.parse import urlencode

from tests.fakes.faults import Kind
from tests.integration.case import MB, MirrorCase
from tests.integration.client import Pulled, Reading, pull
from tests.integration.daemon import Daemon

_APP = "library/app"
SWEPT = ("is_dry_run", "entries", "bytes", "victims")


def command(daemon: Daemon, method: str, path: str, **parameters: str) -> Pulled:
    """Send a command and read its whole response."""
    return pull(f"{daemon.command_url}{path}?{urlencode(parameters)}", method=method)


def lines(pulled: Pulled) -> list[Any]:
    """Return the values of a response of one JSON value per line."""
    return [json.loads(line) for line in pulled.body.splitlines()]


def stored_entries(daemon: Daemon) -> int:
    """Return how many blobs and manifests the daemon has stored and indexed."""
    return int(json.loads(pull(f"{daemon.admin_url}/status").body)["store"]["entries"])


def keys(value: Any) -> Any:
    """Return the keys of a JSON document, with those of the first item of each list."""
    match value:
        case dict():
            return {key: keys(one) for key, one in value.items()}
        case list():
            return [keys(one) for one in value[:1]]
    return None


class OperateTests(MirrorCase):
    def test_status_keys(self) -> None:
        """All keys of /status are present, also while there is no value for them."""
        daemon = self.start_daemon()
        status = json.loads(pull(f"{daemon.admin_url}/status").body)
        names = ("name", "manifests", "manifests_wait_seconds", "others", "others_wait_seconds")
        quota = dict.fromkeys(("limit", "remaining", "window_seconds", "source"))
        upstream = {**dict.fromkeys(names), "quota": quota}
        upstream |= dict.fromkeys(("last_error", "last_error_seconds_ago"))
        listener = dict.fromkeys(("endpoint", "connections", "is_tls", "trouble", "address"))
        expected: dict[str, Any] = {
            "version": None,
            "uptime_seconds": None,
            "store": dict.fromkeys(("bytes", "entries", "max_bytes")),
            "hosted": {
                **dict.fromkeys(("bytes", "entries", "uploads")),
                "quarantine": dict.fromkeys(("bytes", "entries")),
            },
            "saved": dict.fromkeys(("pulls", "bytes")),
            "listeners": [{**listener, "certificates": {}}],
            "upstreams": [upstream],
            "downloads": [],
            "logs": dict.fromkeys(("dropped", "access_dropped")),
        }
        self.assertEqual(expected, {key: one for key, one in keys(status).items() if key != "last_sweep"})

    def test_life_of_an_image(self) -> None:
        """An image is pulled ahead of time, listed, explained, served without its upstream, and removed."""
        daemon = self.start_daemon()
        image = self.registry.put_image(MB)

        events = lines(command(daemon, "POST", "/pull", reference="app", platform="linux/amd64"))
        self.assertEqual(["resolved", "manifest"], [event["event"] for event in events[:2]])
        self.assertEqual(image.manifest.digest, events[0]["digest"])
        self.assertEqual("done", events[-1]["event"])
        self.assertGreaterEqual(events[-1]["fetched_bytes"], image.layer.size)

        self.registry.forget()
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)
        self.assertEqual((), self.registry.journal.requests(Kind.CONTENT))

        pull(daemon.manifest("latest"))

        def explain() -> Any:
            return json.loads(command(daemon, "GET", "/why", reference="app").body)

        # Responses are complete before fsync and commit.
        self.wait_until(lambda: {blob["state"] for blob in explain()["blobs"]} == {"held"}, what="the commit")
        self.wait_until_settled(daemon)
        why = explain()
        self.assertEqual(("app", "docker.io", _APP), (why["reference"], why["upstream"], why["repository"]))
        self.assertEqual("fresh", why["tag"]["state"])
        self.assertEqual("127.0.0.1", why["last_client"])
        self.assertIsNone(why["why_not"])

        (listed,) = lines(command(daemon, "GET", "/repositories", pattern="a*"))
        self.assertEqual(("app", 1), (listed["name"], listed["manifests"]))
        self.assertEqual([("latest", True)], [(tag["tag"], tag["is_held"]) for tag in listed["tags"]])
        self.assertGreaterEqual(listed["bytes"], image.layer.size)
        self.assertEqual([], lines(command(daemon, "GET", "/repositories", pattern="quay.io/*")))

        removed = json.loads(command(daemon, "DELETE", "/repositories", reference="app:latest").body)
        self.assertEqual({"reference": "app:latest"}, removed["removed"][0])
        self.assertGreaterEqual(removed["bytes"], image.layer.size)
        self.assertEqual(404, command(daemon, "DELETE", "/repositories", reference="app").status)
        self.assertEqual([], lines(command(daemon, "GET", "/repositories")))
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)

    def test_verify(self) -> None:
        """Corrupt content is found, never served, and downloaded again."""
        daemon = self.start_daemon()
        image = self.registry.put_image(2 * MB)
        command(daemon, "POST", "/pull", reference="app")
        algorithm, _, encoded = image.layer.digest.partition(":")
        path = daemon.store / "blobs" / algorithm / encoded[:2] / encoded
        entries = 1 + len(image.blobs)
        self.wait_until(lambda: stored_entries(daemon) == entries, what="the last commit")
        with path.open("r+b") as file:
            file.seek(MB)
            file.write(b"rot")

        events = lines(command(daemon, "POST", "/verify"))

        by_name = {event["event"]: event for event in events}
        self.assertEqual(
            (image.layer.digest, ["app"]), (by_name["corrupt"]["digest"], by_name["corrupt"]["repositories"])
        )
        self.assertEqual(image.layer.digest, by_name["fetched"]["digest"])
        self.assertEqual((1, 1), (by_name["done"]["corrupt"], by_name["done"]["fetched"]))
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)
        self.assertTrue((daemon.store / "partials" / f"broken-blob-{algorithm}-{encoded}").exists())

    def test_sweep(self) -> None:
        """A dry run removes nothing; both kinds of sweep report their results."""
        daemon = self.start_daemon()
        self.registry.put_image(MB)
        command(daemon, "POST", "/pull", reference="app")
        for dry_run, is_dry_run in (("1", True), ("0", False)):
            swept = json.loads(command(daemon, "POST", "/sweep", dry_run=dry_run).body)
            self.assertEqual((is_dry_run, 0, 0, []), tuple(swept[key] for key in SWEPT))
            self.assertEqual(([], 0), (swept["hosted"]["victims"], swept["hosted"]["manifests"]))

    def test_disconnect_during_pull(self) -> None:
        """A client that disconnects from a pull leaves its downloads running."""
        daemon = self.start_daemon()
        image = self.registry.put_image(8 * MB)
        self.registry.throttle(4 * MB)
        reading = Reading.open(f"{daemon.command_url}/pull?reference=app", method="POST")
        self.wait_until(lambda: bool(json.loads(pull(f"{daemon.admin_url}/status").body)["downloads"]))
        reading.hang_up()

        def is_held() -> bool:
            why = json.loads(command(daemon, "GET", "/why", reference="app").body)
            return {blob["state"] for blob in why["blobs"]} == {"held"}

        self.wait_until(is_held, what="the image")
        self.assertEqual(1, len(self.registry.journal.requests(Kind.CONTENT, match=image.layer.digest)))

    def test_stop_during_verification(self) -> None:
        """A daemon stops in order during a verification."""
        daemon = self.start_daemon()
        self.registry.put_image(64 * MB)
        command(daemon, "POST", "/pull", reference="app")
        Reading.open(f"{daemon.command_url}/verify", method="POST")
        daemon.stop()

    def test_failures(self) -> None:
        """Errors have the specification's codes."""
        daemon = self.start_daemon()
        for method, path, parameters, status, code in (
            ("POST", "/pull", {"reference": "app"}, 404, "MANIFEST_UNKNOWN"),
            ("POST", "/pull", {"reference": "nowhere.example/app"}, 404, "NAME_UNKNOWN"),
            ("POST", "/pull", {"reference": "App"}, 400, "NAME_INVALID"),
            ("POST", "/pull", {"reference": "app", "platform": "pdp11"}, 400, "NAME_INVALID"),
            ("DELETE", "/repositories", {"reference": "app@sha256:12"}, 400, "DIGEST_INVALID"),
            ("PUT", "/verify", {}, 405, "UNSUPPORTED"),
        ):
            response = command(daemon, method, path, **parameters)
            self.assertEqual(
                (status, code), (response.status, json.loads(response.body)["errors"][0]["code"])
            )
