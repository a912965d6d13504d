"""Users, rules and tokens before a real daemon."""

import base64
import hashlib
import http.client
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import attrs
import bcrypt

from tests.fakes.scene import Manners
from tests.integration.case import MirrorCase
from tests.integration.client import pull
from tests.integration.daemon import Daemon

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

REFUSED = {"nobody": 401, "ann": 403, "bob": 403}


@attrs.frozen
class Answered:
    """What a client got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The spec's code of an error."""
        return str(json.loads(self.body)["errors"][0]["code"])


def basic(username: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


def write_users(file: Path, *names: str) -> None:
    """A file of these users, put in place at once."""
    lines = [f"{n}:{bcrypt.hashpw(PASSWORDS[n].encode(), bcrypt.gensalt(6)).decode()}\n" for n in names]
    scratch = file.with_suffix(".new")
    scratch.write_text("".join(lines))
    scratch.replace(file)


class AccessCase(MirrorCase):
    manners = Manners()

    def setUp(self) -> None:
        super().setUp()
        self.users = self.folder / "htpasswd"
        write_users(self.users, *PASSWORDS)
        self.daemon = self.start_daemon(more=RULES.replace('"htpasswd"', json.dumps(str(self.users))))

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answered:
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.port, timeout=20)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            told = {name.lower(): value for name, value in response.getheaders()}
            return Answered(response.status, told, response.read())
        finally:
            connection.close()

    def brought(self, who: str) -> dict[str, str]:
        """What they bring with every request."""
        if who == "nobody":
            return {}
        return basic("ann", "wrong") if who == "wrong" else basic(who, PASSWORDS[who])

    def token(self, who: str, scope: str = "") -> dict[str, str]:
        answered = self.request("GET", f"/v2/token?service=mirrord&scope={scope}", self.brought(who))
        self.assertEqual(answered.status, 200, answered)
        return {"Authorization": f"Bearer {json.loads(answered.body)['token']}"}

    def push(self, repository: str, headers: Mapping[str, str]) -> None:
        """An image of one blob, tagged 1."""
        path = f"/v2/{repository}/blobs/uploads/?digest={DIGEST}"
        self.assertEqual(self.request("POST", path, headers, BLOB).status, 201)
        typed = {**headers, "Content-Type": MANIFEST_TYPE}
        self.assertEqual(self.request("PUT", f"/v2/{repository}/manifests/1", typed, MANIFEST).status, 201)


class MatrixTests(AccessCase):
    def setUp(self) -> None:
        super().setUp()
        for repository in ("team/a", "private/a"):
            self.push(repository, self.brought("ann"))

    def test_pull(self) -> None:
        """Everybody pulls what they may, from hosted and from mirrored repositories; others are refused."""
        self.registry.put_image(1000, repository="library/app")
        self.registry.put_image(1000, repository="library/closed")
        for path, allowed in (
            ("team/a/manifests/1", {"nobody", "ann", "bob"}),
            (f"team/a/blobs/{DIGEST}", {"nobody", "ann", "bob"}),
            ("team/a/tags/list", {"nobody", "ann", "bob"}),
            ("private/a/manifests/1", {"ann"}),
            (f"private/a/blobs/{DIGEST}", {"ann"}),
            ("private/a/tags/list", {"ann"}),
            (f"private/a/referrers/{DIGEST}", {"ann"}),
            ("library/app/manifests/latest", {"nobody", "ann", "bob"}),
            ("library/closed/manifests/latest", {"ann", "bob"}),
            ("library/closed/manifests/latest?ns=docker.io", {"ann", "bob"}),
            ("dockerhub/closed/manifests/latest", {"ann", "bob"}),
            ("quay/team/a/manifests/1", set()),
        ):
            for who, refusal in REFUSED.items():
                for method in ("GET", "HEAD"):
                    status = self.request(method, f"/v2/{path}", self.brought(who)).status
                    self.assertEqual(status, 200 if who in allowed else refusal, f"{who} {method} {path}")

    def test_wrong_password(self) -> None:
        """With a wrong password nobody may do anything, not even what everybody may."""
        for method, path in (
            ("GET", "team/a/manifests/1"),
            ("HEAD", f"private/a/blobs/{DIGEST}"),
            ("POST", "team/a/blobs/uploads/"),
            ("DELETE", "team/a/manifests/1"),
            ("GET", "_catalog"),
        ):
            self.assertEqual(self.request(method, f"/v2/{path}", self.brought("wrong")).status, 401, path)

    def test_push(self) -> None:
        """Who may push does; others are refused before they send a byte."""
        for repository, allowed in (("team/b", {"ann", "bob"}), ("private/b", {"ann"})):
            for who, refusal in REFUSED.items():
                for method, path in (("POST", "blobs/uploads/"), ("PUT", "manifests/1")):
                    headers = {**self.brought(who), "Content-Length": "1000000000", "Expect": "100-continue"}
                    headers = headers if who not in allowed else self.brought(who)
                    status = self.request(method, f"/v2/{repository}/{path}", headers).status
                    cell = f"{who} {method} {repository}"
                    if who in allowed:
                        self.assertNotIn(status, {401, 403}, cell)
                    else:
                        self.assertEqual(status, refusal, cell)

    def test_delete(self) -> None:
        """Who may delete does, and the others are refused."""
        for who, refusal in REFUSED.items():
            if who != "ann":
                status = self.request("DELETE", "/v2/team/a/manifests/1", self.brought(who)).status
                self.assertEqual(status, refusal, who)
        self.assertEqual(self.request("DELETE", "/v2/private/a/manifests/1", self.brought("ann")).status, 403)
        self.assertEqual(self.request("DELETE", "/v2/team/a/manifests/1", self.brought("ann")).status, 202)

    def test_mount(self) -> None:
        """A blob is mounted from where its pusher may read, and else has to be sent."""
        for who, origin, status in (
            ("ann", "private/a", 201),
            ("bob", "private/a", 202),
            ("bob", "team/a", 201),
        ):
            path = f"/v2/team/{who}/blobs/uploads/?mount={DIGEST}&from={origin}"
            self.assertEqual(self.request("POST", path, self.brought(who)).status, status, f"{who} {origin}")

    def test_mount_by_challenge(self) -> None:
        """A client that goes by challenges alone is led to a token for both repositories."""
        path = f"/v2/team/c/blobs/uploads/?mount={DIGEST}&from=private/a"
        for brought in ({}, self.token("ann", "repository:team/c:pull,push")):
            refused = self.request("POST", path, brought)
            self.assertEqual(refused.status, 401)
            scope = refused.headers["www-authenticate"].partition('scope="')[2].partition('"')[0]
            self.assertEqual(set(scope.split()), {"repository:team/c:pull,push", "repository:private/a:pull"})
            self.assertEqual(self.request("POST", path, self.token("ann", quote(scope))).status, 201)
            self.assertEqual(self.request("POST", path, self.token("bob", quote(scope))).status, 202)

    def test_list(self) -> None:
        """The catalog shows what one may pull."""
        for who, seen in (("ann", {"team/a", "private/a"}), ("bob", {"team/a"})):
            listed = json.loads(self.request("GET", "/v2/_catalog", self.brought(who)).body)["repositories"]
            self.assertEqual(set(listed) & {"team/a", "private/a"}, seen)
        self.assertEqual(self.request("GET", "/v2/_catalog").status, 401)

    def test_nothing_is_confirmed(self) -> None:
        """What one may not read is refused in the same words, whether it is there or not."""
        absent = f"sha256:{'0' * 64}"
        for who in ("nobody", "bob"):
            for method in ("GET", "HEAD"):
                for there, nowhere in (
                    (f"private/a/blobs/{DIGEST}", f"private/a/blobs/{absent}"),
                    ("private/a/manifests/1", "private/a/manifests/2"),
                    ("private/a/tags/list", "private/a/tags/list?n=1"),
                ):
                    one = self.request(method, f"/v2/{there}", self.brought(who))
                    other = self.request(method, f"/v2/{nowhere}", self.brought(who))
                    same = [(name, value) for name, value in one.headers.items() if name != "date"]
                    self.assertEqual(same, [(n, v) for n, v in other.headers.items() if n != "date"])
                    self.assertEqual((one.status, one.body), (other.status, other.body))


class LoginTests(AccessCase):
    def test_first_question(self) -> None:
        """/v2/ asks for a token, and takes it, an anonymous one too."""
        asked = self.request("GET", "/v2/")
        self.assertEqual(asked.status, 401)
        self.assertEqual(
            asked.headers["www-authenticate"],
            f'Bearer realm="http://127.0.0.1:{self.daemon.port}/v2/token",service="mirrord"',
        )
        self.assertEqual(asked.headers["docker-distribution-api-version"], "registry/2.0")
        for who in ("nobody", "ann"):
            self.assertEqual(self.request("GET", "/v2/", self.token(who)).status, 200)
        self.assertEqual(self.request("GET", "/v2/", self.brought("bob")).status, 200)
        self.assertEqual(self.request("GET", "/v2/", self.brought("wrong")).status, 401)

    def test_push_with_a_token(self) -> None:
        """A token for pushing to a repository pushes there, and to no other."""
        token = self.token("bob", "repository:team/a:pull,push")
        self.push("team/a", token)
        refused = self.request("POST", "/v2/team/b/blobs/uploads/", token)
        self.assertEqual(refused.status, 401)
        self.assertIn('scope="repository:team/b:pull,push"', refused.headers["www-authenticate"])
        self.assertIn('error="insufficient_scope"', refused.headers["www-authenticate"])

    def test_removed_user(self) -> None:
        """A user who is taken out of the file loses access, with a token that is still valid too."""
        token = self.token("bob", "repository:team/a:pull,push")
        self.assertEqual(self.request("GET", "/v2/", token).status, 200)
        write_users(self.users, "ann")
        self.wait_until(lambda: self.request("GET", "/v2/", token).status == 401, 5, "the loss of access")
        self.assertEqual(self.request("GET", "/v2/", self.brought("bob")).status, 401)

    def test_broken_file(self) -> None:
        """A file that breaks changes nothing; readiness says what is wrong, and a reload is refused."""
        self.users.write_text("ann:{SHA}x\n")
        time.sleep(1.1)
        self.assertEqual(self.request("GET", "/v2/", self.brought("bob")).status, 200)
        self.assertIn(b"the password of ann is not hashed by bcrypt", self.ready().body)
        os.kill(self.daemon.pid, signal.SIGHUP)
        self.wait_until(lambda: "reload rejected: access.htpasswd" in self.daemon.log)
        self.assertEqual(self.request("GET", "/v2/", self.brought("bob")).status, 200)

    def ready(self) -> Answered:
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.admin_port, timeout=20)
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return Answered(response.status, {}, body)

    def test_restart(self) -> None:
        """A token is good after a restart; its key is nobody else's to read."""
        token = self.token("ann")
        self.daemon.stop()
        self.daemon.start()
        self.assertEqual(self.request("GET", "/v2/", token).status, 200)
        self.assertEqual((self.daemon.store / "token.key").stat().st_mode & 0o777, 0o600)

    def test_guessing(self) -> None:
        """Guesses are slowed down, those beside them sent away; no password and no token is in the log."""
        with ThreadPoolExecutor(12) as pool:
            began_at = time.monotonic()
            guesses = [basic("ann", f"guess{number}") for number in range(12)]
            answers = list(pool.map(lambda guess: self.request("GET", "/v2/", guess), guesses))
        self.assertEqual(Counter(answer.status for answer in answers), {401: 6, 429: 6})
        self.assertGreater(time.monotonic() - began_at, 2)
        refused = next(answer for answer in answers if answer.status == 429)
        self.assertEqual(refused.code, "TOOMANYREQUESTS")
        self.assertLess(int(refused.headers["retry-after"]), 10)
        self.assertEqual(self.request("GET", "/v2/", self.brought("ann")).status, 200)
        self.assertIn("wrong user name or password from 127.0.0.1", self.daemon.log)
        for secret in ("apple", "guess", "Basic", "Bearer", "eyJ"):
            self.assertNotIn(secret, self.daemon.log)


class OpenTests(MirrorCase):
    def start(self, more: str = "") -> Daemon:
        return self.start_daemon(more='[hosted]\nrepositories = ["team/*"]\n' + more)

    def post(self, daemon: Daemon, headers: Mapping[str, str]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=20)
        connection.request("POST", "/v2/team/a/blobs/uploads/", headers=dict(headers))
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    def test_without_access(self) -> None:
        """Unconfigured, this host pushes, and nobody does through a proxy or a browser; the log says so."""
        daemon = self.start()
        self.assertEqual(self.post(daemon, {}), 202)
        for name in ("X-Forwarded-For", "Forwarded", "Via", "Origin"):
            self.assertEqual(self.post(daemon, {name: "1"}), 403, name)
        self.assertIn("only local clients may push", daemon.log)
        self.assertFalse((daemon.store / "token.key").exists())

    def test_reload(self) -> None:
        """Access is taken on by a reload, and given up by one; where no key can be kept, it is refused."""
        state = self.folder / "state"
        state.write_text("a file where a folder should be")
        daemon = self.start_daemon({"STATE_DIRECTORY": str(state)})
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
        """Have it read its settings, until it says so once more."""
        said = daemon.log.count(until)
        daemon.write_config()
        os.kill(daemon.pid, signal.SIGHUP)
        self.wait_until(lambda: daemon.log.count(until) > said, what=until)
