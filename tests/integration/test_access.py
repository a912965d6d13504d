"""Users, rules and tokens of a real daemon."""

import base64
import hashlib
import http.client
import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import attrs
import bcrypt

from tests.fakes.state import RegistryBehavior
from tests.integration.case import MirrorCase
from tests.integration.client import pull
from tests.integration.daemon import Daemon, free_port
from tests.integration.pushing import PUSHABLE, Response

PASSWORDS = {"ann": "apple", "bob": "berry"}

RULES = """
[hosted]
repositories = ["team/*", "private/*"]
[access]
htpasswd = "htpasswd"
[[access.rules]]
repositories = ["team/*"]
pull = ["anonymous"]
push = ["users"]
delete = ["user:ann"]
[[access.rules]]
repositories = ["private/*"]
pull = ["user:ann"]
push = ["user:ann"]
[[access.rules]]
repositories = ["docker.io/library/app"]
pull = ["anonymous"]
[[access.rules]]
repositories = ["docker.io/library/*"]
pull = ["users"]
"""

BLOB = b"a layer"
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
DESCRIPTOR = {"mediaType": CONFIG_TYPE, "digest": DIGEST, "size": len(BLOB)}
MANIFEST = json.dumps(
    {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": DESCRIPTOR, "layers": []}
).encode()

REJECTED = {"anonymous": 401, "ann": 403, "bob": 403}


def basic(username: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


def write_users(file: Path, *names: str) -> None:
    """Write a file of these users, atomically."""
    lines = [f"{n}:{bcrypt.hashpw(PASSWORDS[n].encode(), bcrypt.gensalt(6)).decode()}\n" for n in names]
    temporary = file.with_suffix(".new")
    temporary.write_text("".join(lines))
    temporary.replace(file)


class AccessCase(MirrorCase):
    behavior = RegistryBehavior()

    def setUp(self) -> None:
        super().setUp()
        self.users = self.folder / "htpasswd"
        write_users(self.users, *PASSWORDS)
        self.daemon = self.start_daemon(more=RULES.replace('"htpasswd"', json.dumps(str(self.users))))

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.port, timeout=20)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, fields, response.read())
        finally:
            connection.close()

    def credentials(self, user: str) -> dict[str, str]:
        """Return the headers with which a user authenticates itself."""
        if user == "anonymous":
            return {}
        return basic("ann", "wrong") if user == "wrong" else basic(user, PASSWORDS[user])

    def token(self, user: str, scope: str = "") -> dict[str, str]:
        response = self.request("GET", f"/v2/token?service=mirrord&scope={scope}", self.credentials(user))
        self.assertEqual(response.status, 200, response)
        return {"Authorization": f"Bearer {response.document['token']}"}

    def push(self, repository: str, headers: Mapping[str, str]) -> None:
        """Push an image of one blob, tagged 1."""
        path = f"/v2/{repository}/blobs/uploads/?digest={DIGEST}"
        self.assertEqual(self.request("POST", path, headers, BLOB).status, 201)
        typed = {**headers, "Content-Type": MANIFEST_TYPE}
        self.assertEqual(self.request("PUT", f"/v2/{repository}/manifests/1", typed, MANIFEST).status, 201)


class MatrixTests(AccessCase):
    def setUp(self) -> None:
        super().setUp()
        for repository in ("team/a", "private/a"):
            self.push(repository, self.credentials("ann"))

    def test_pull(self) -> None:
        """Hosted and mirrored repositories can be pulled with permission only."""
        self.registry.put_image(1000, repository="library/app")
        self.registry.put_image(1000, repository="library/closed")
        for path, allowed in (
            ("team/a/manifests/1", {"anonymous", "ann", "bob"}),
            (f"team/a/blobs/{DIGEST}", {"anonymous", "ann", "bob"}),
            ("team/a/tags/list", {"anonymous", "ann", "bob"}),
            ("private/a/manifests/1", {"ann"}),
            (f"private/a/blobs/{DIGEST}", {"ann"}),
            ("private/a/tags/list", {"ann"}),
            (f"private/a/referrers/{DIGEST}", {"ann"}),
            ("library/app/manifests/latest", {"anonymous", "ann", "bob"}),
            ("library/closed/manifests/latest", {"ann", "bob"}),
            ("library/closed/manifests/latest?ns=docker.io", {"ann", "bob"}),
            ("dockerhub/closed/manifests/latest", {"ann", "bob"}),
            ("quay/team/a/manifests/1", set()),
        ):
            for user, rejection in REJECTED.items():
                for method in ("GET", "HEAD"):
                    status = self.request(method, f"/v2/{path}", self.credentials(user)).status
                    self.assertEqual(status, 200 if user in allowed else rejection, f"{user} {method} {path}")

    def test_wrong_password(self) -> None:
        """A wrong password is a 401, even for a request that is permitted anonymously."""
        for method, path in (
            ("GET", "team/a/manifests/1"),
            ("HEAD", f"private/a/blobs/{DIGEST}"),
            ("POST", "team/a/blobs/uploads/"),
            ("DELETE", "team/a/manifests/1"),
            ("GET", "_catalog"),
        ):
            self.assertEqual(self.request(method, f"/v2/{path}", self.credentials("wrong")).status, 401, path)

    def test_push(self) -> None:
        """Only users with permission can push; others are rejected before the body."""
        for repository, allowed in (("team/b", {"ann", "bob"}), ("private/b", {"ann"})):
            for user, rejection in REJECTED.items():
                for method, path in (("POST", "blobs/uploads/"), ("PUT", "manifests/1")):
                    headers = {
                        **self.credentials(user),
                        "Content-Length": "1000000000",
                        "Expect": "100-continue",
                    }
                    headers = headers if user not in allowed else self.credentials(user)
                    status = self.request(method, f"/v2/{repository}/{path}", headers).status
                    cell = f"{user} {method} {repository}"
                    if user in allowed:
                        self.assertNotIn(status, {401, 403}, cell)
                    else:
                        self.assertEqual(status, rejection, cell)

    def test_delete(self) -> None:
        """Only users with permission can delete."""
        for user, rejection in REJECTED.items():
            if user != "ann":
                status = self.request("DELETE", "/v2/team/a/manifests/1", self.credentials(user)).status
                self.assertEqual(status, rejection, user)
        self.assertEqual(
            self.request("DELETE", "/v2/private/a/manifests/1", self.credentials("ann")).status, 403
        )
        self.assertEqual(
            self.request("DELETE", "/v2/team/a/manifests/1", self.credentials("ann")).status, 202
        )

    def test_mount(self) -> None:
        """A blob is mounted from a repository that its pusher may read, and otherwise has to be uploaded."""
        for user, origin, status in (
            ("ann", "private/a", 201),
            ("bob", "private/a", 202),
            ("bob", "team/a", 201),
        ):
            path = f"/v2/team/{user}/blobs/uploads/?mount={DIGEST}&from={origin}"
            self.assertEqual(
                self.request("POST", path, self.credentials(user)).status, status, f"{user} {origin}"
            )

    def test_mount_by_challenge(self) -> None:
        """A client that follows challenges obtains a token for both repositories."""
        path = f"/v2/team/c/blobs/uploads/?mount={DIGEST}&from=private/a"
        for headers in ({}, self.token("ann", "repository:team/c:pull,push")):
            rejected = self.request("POST", path, headers)
            self.assertEqual(rejected.status, 401)
            scope = rejected.headers["www-authenticate"].partition('scope="')[2].partition('"')[0]
            self.assertEqual(set(scope.split()), {"repository:team/c:pull,push", "repository:private/a:pull"})
            self.assertEqual(self.request("POST", path, self.token("ann", quote(scope))).status, 201)
            self.assertEqual(self.request("POST", path, self.token("bob", quote(scope))).status, 202)

    def test_list(self) -> None:
        """The catalog lists the repositories that a user may pull."""
        for user, visible in (("ann", {"team/a", "private/a"}), ("bob", {"team/a"})):
            listed = json.loads(self.request("GET", "/v2/_catalog", self.credentials(user)).body)[
                "repositories"
            ]
            self.assertEqual(set(listed) & {"team/a", "private/a"}, visible)
        self.assertEqual(self.request("GET", "/v2/_catalog").status, 401)

    def test_existence_is_not_disclosed(self) -> None:
        """Without permission the response is the same whether the content is stored or not."""
        absent = f"sha256:{'0' * 64}"
        for user in ("anonymous", "bob"):
            for method in ("GET", "HEAD"):
                for stored, missing in (
                    (f"private/a/blobs/{DIGEST}", f"private/a/blobs/{absent}"),
                    ("private/a/manifests/1", "private/a/manifests/2"),
                    ("private/a/tags/list", "private/a/tags/list?n=1"),
                ):
                    one = self.request(method, f"/v2/{stored}", self.credentials(user))
                    other = self.request(method, f"/v2/{missing}", self.credentials(user))
                    same = [(name, value) for name, value in one.headers.items() if name != "date"]
                    self.assertEqual(same, [(n, v) for n, v in other.headers.items() if n != "date"])
                    self.assertEqual((one.status, one.body), (other.status, other.body))


class LoginTests(AccessCase):
    def test_challenge(self) -> None:
        """/v2/ requires a token, and accepts any, also an anonymous one."""
        challenge = self.request("GET", "/v2/")
        self.assertEqual(challenge.status, 401)
        self.assertEqual(
            challenge.headers["www-authenticate"],
            f'Bearer realm="http://127.0.0.1:{self.daemon.port}/v2/token",service="mirrord"',
        )
        self.assertEqual(challenge.headers["docker-distribution-api-version"], "registry/2.0")
        for user in ("anonymous", "ann"):
            self.assertEqual(self.request("GET", "/v2/", self.token(user)).status, 200)
        self.assertEqual(self.request("GET", "/v2/", self.credentials("bob")).status, 200)
        self.assertEqual(self.request("GET", "/v2/", self.credentials("wrong")).status, 401)

    def test_push_with_a_token(self) -> None:
        """A token to push to a repository is valid for that repository only."""
        token = self.token("bob", "repository:team/a:pull,push")
        self.push("team/a", token)
        rejected = self.request("POST", "/v2/team/b/blobs/uploads/", token)
        self.assertEqual(rejected.status, 401)
        self.assertIn('scope="repository:team/b:pull,push"', rejected.headers["www-authenticate"])
        self.assertIn('error="insufficient_scope"', rejected.headers["www-authenticate"])

    def test_removed_user(self) -> None:
        """A user user is removed from the file loses access, even with a token that has not expired."""
        token = self.token("bob", "repository:team/a:pull,push")
        self.assertEqual(self.request("GET", "/v2/", token).status, 200)
        write_users(self.users, "ann")
        self.wait_until(lambda: self.request("GET", "/v2/", token).status == 401, what="the loss of access")
        self.assertEqual(self.request("GET", "/v2/", self.credentials("bob")).status, 401)

    def test_changed_password(self) -> None:
        """A changed password ends the tokens that were requested with it, and no other user's."""
        tokens = {user: self.token(user) for user in ("ann", "bob")}
        ann, _ = self.users.read_text().splitlines()
        bob = bcrypt.hashpw(b"cherry", bcrypt.gensalt(6)).decode()
        self.users.write_text(f"{ann}\nbob:{bob}\n")
        self.wait_until(
            lambda: self.request("GET", "/v2/", tokens["bob"]).status == 401, what="the loss of access"
        )
        self.assertEqual(self.request("GET", "/v2/", tokens["ann"]).status, 200)
        self.assertEqual(self.request("GET", "/v2/", basic("bob", "cherry")).status, 200)

    def test_broken_file(self) -> None:
        """An invalid file changes nothing; /readyz has the error, and a reload is rejected."""
        self.users.write_text("ann:{SHA}x\n")

        def is_reported() -> bool:
            self.assertEqual(self.request("GET", "/v2/", self.credentials("bob")).status, 200)
            return b"the password of ann is not hashed by bcrypt" in self.readiness().body

        self.wait_until(is_reported, what="the error in /readyz")
        os.kill(self.daemon.pid, signal.SIGHUP)
        self.wait_until(lambda: "reload rejected: access.htpasswd" in self.daemon.log)
        self.assertEqual(self.request("GET", "/v2/", self.credentials("bob")).status, 200)

    def readiness(self) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.admin_port, timeout=20)
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return Response(response.status, {}, body)

    def test_restart(self) -> None:
        """A token is valid after a restart; only the owner can read its key."""
        token = self.token("ann")
        self.daemon.stop()
        self.daemon.start()
        self.assertEqual(self.request("GET", "/v2/", token).status, 200)
        self.assertEqual((self.daemon.store / "token.key").stat().st_mode & 0o777, 0o600)

    def test_guessing(self) -> None:
        """Concurrent wrong passwords are delayed or 429; no password and no token is logged."""
        with ThreadPoolExecutor(12) as pool:
            began_at = time.monotonic()
            guesses = [basic("ann", f"guess{number}") for number in range(12)]
            responses = list(pool.map(lambda guess: self.request("GET", "/v2/", guess), guesses))
        self.assertEqual(Counter(response.status for response in responses), {401: 6, 429: 6})
        self.assertGreater(time.monotonic() - began_at, 2)
        rejected = next(response for response in responses if response.status == 429)
        self.assertEqual(rejected.code, "TOOMANYREQUESTS")
        self.assertLess(int(rejected.headers["retry-after"]), 10)
        self.assertEqual(self.request("GET", "/v2/", self.credentials("ann")).status, 200)
        self.assertIn("wrong user name or password from 127.0.0.1", self.daemon.log)
        for secret in ("apple", "guess", "Basic", "Bearer", "eyJ"):
            self.assertNotIn(secret, self.daemon.log)


class OpenTests(MirrorCase):
    def send(self, port: int, method: str, path: str, *headers: str, start: bytes = b"") -> bytes:
        """Send a request over a connection that begins with `start`, and return the whole response."""
        fields = "".join(f"{header}\r\n" for header in (*headers, "Content-Length: 0", "Connection: close"))
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(start + f"{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
            return connection.makefile("rb").read()

    def statuses(self, port: int, *headers: str, start: bytes = b"") -> list[int]:
        """Return the statuses of an attempt to push, and of one to delete what does not exist."""
        attempts = (("POST", "/v2/team/a/blobs/uploads/"), ("DELETE", "/v2/team/a/manifests/none"))
        responses = [self.send(port, *attempt, *headers, start=start) for attempt in attempts]
        return [int(response.split()[1]) for response in responses]

    def test_without_access(self) -> None:
        """Without [access] clients on this host may not push or delete, and learn which key allows it."""
        daemon = self.start_daemon(more='[hosted]\nrepositories = ["team/*"]\n')
        self.assertEqual(self.statuses(daemon.port), [403, 403])
        self.assertIn(
            b"push_from_loopback = true in [hosted]",
            self.send(daemon.port, "POST", "/v2/team/a/blobs/uploads/"),
        )
        self.assertIn("none may push and delete", daemon.log)
        self.assertFalse((daemon.store / "token.key").exists())
        settings = daemon.settings
        daemon.settings = attrs.evolve(settings, more=PUSHABLE + 'repositories = ["team/*"]\n')
        self.reload(daemon, "clients on this host may push and delete")
        self.wait_until(lambda: self.statuses(daemon.port) == [202, 404], what="the reload")
        daemon.settings = settings
        self.reload(daemon, "none may push and delete")
        self.wait_until(lambda: self.statuses(daemon.port) == [403, 403], what="the reload")

    def test_push_from_loopback(self) -> None:
        """With `push_from_loopback` local clients may push, but not through a proxy or a browser."""
        daemon = self.start_daemon(more=PUSHABLE + 'repositories = ["team/*"]\n')
        self.assertEqual(self.statuses(daemon.port), [202, 404])
        for name in ("X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "Via", "Origin"):
            self.assertEqual(self.statuses(daemon.port, f"{name}: 127.0.0.1"), [403, 403], name)

    def test_proxy_on_this_host(self) -> None:
        """A client behind a trusted proxy on this host is not local, even if the proxy does not name it."""
        plain, proxied = free_port(), free_port()
        listeners = "".join(
            f'[[listen]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
            f'trusted_proxies = ["127.0.0.1"]\nproxy_protocol = {is_proxied}\n'
            for port, is_proxied in ((plain, "false"), (proxied, "true"))
        )
        self.start_daemon(more=f'{PUSHABLE}repositories = ["team/*"]\n{listeners}')
        for port, start in (
            (plain, b""),
            (proxied, b"PROXY UNKNOWN\r\n"),
            (proxied, b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"),
        ):
            for headers in ((), ("X-Forwarded-For: 127.0.0.1",)):
                self.assertEqual(self.statuses(port, *headers, start=start), [403, 403], (start, headers))

    def test_unix_socket(self) -> None:
        """A client of a Unix socket is not local: there may be a proxy behind it."""
        endpoint = self.folder / "socket"
        more = f'{PUSHABLE}repositories = ["team/*"]\n[[listen]]\nendpoint = "unix:{endpoint}"\n'
        self.start_daemon(more=more)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(endpoint))
            connection.sendall(
                b"POST /v2/team/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            )
            self.assertEqual(connection.recv(1024).split()[1], b"403")

    def test_reload(self) -> None:
        """A reload enables [access], and disables it; without a place for the key it is rejected."""
        state = self.folder / "state"
        state.write_text("a file where a folder should be")
        daemon = self.start_daemon(
            {"STATE_DIRECTORY": str(state)}, more_admin=f'socket = "{self.folder}/command"'
        )
        plain = daemon.settings
        users = self.folder / "htpasswd"
        write_users(users, "ann")
        access = f'[access]\nhtpasswd = {json.dumps(str(users))}\nrules = [{{repositories = ["*"]}}]\n'
        daemon.settings = attrs.evolve(plain, more=access)
        self.reload(daemon, "reload rejected: access: ")
        self.assertEqual(pull(f"{daemon.url}/v2/").status, 200)
        state.unlink()
        self.reload(daemon, "configuration reloaded")
        self.assertEqual(pull(f"{daemon.url}/v2/").status, 401)
        daemon.settings = plain
        self.reload(daemon, "no [access] is configured")
        self.wait_until(lambda: pull(f"{daemon.url}/v2/").status == 200)

    def reload(self, daemon: Daemon, until: str) -> None:
        """Reload the configuration, and wait until `until` is logged once more."""
        count = daemon.log.count(until)
        daemon.write_config()
        os.kill(daemon.pid, signal.SIGHUP)
        self.wait_until(lambda: daemon.log.count(until) > count, what=until)
