"""Tests of mirrord/upstream/client.py and what is behind it, over a network in memory."""

import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.content import OCI_INDEX, OCI_MANIFEST, Descriptor
from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    AccountRefused,
    BlobUnknown,
    CircuitOpen,
    Denied,
    ManifestUnknown,
    NameUnknown,
    UpstreamBusy,
    UpstreamCorrupt,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from mirrord.oci.names import Repository, Tag
from mirrord.upstream.circuit import GateState
from tests.unit.upstream.scripted import (
    HOME,
    ME,
    REALM,
    Asked,
    FakeResponse,
    Hang,
    Reply,
    Script,
    ScriptedAgent,
    challenge,
    client,
    token,
)

T = TypeVar("T")

APP = Repository("library/app")
LATEST = Tag("latest")
BODY = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {}, "layers": []}).encode()
DIGEST = Digest.of(BODY)
MANIFEST = Reply(200, {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": str(DIGEST)}, BODY)
HEAD = Reply(200, {**MANIFEST.headers, "Content-Length": str(len(BODY))})
CDN = "https://cdn.example/blob?sig=a%2Fb=="
BASIC = "Basic bWU6czNjcmV0"


class ClientTestCase(SynchronousTestCase):
    def use(self, *script: Script, **options: Any) -> None:
        self.clock = Clock()
        self.agent = ScriptedAgent(script)
        self.client = client(self.agent, self.clock, **options)

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> "Deferred[T]":
        return Deferred.fromCoroutine(coroutine)

    def result(self, coroutine: Coroutine[Any, Any, T]) -> T:
        result: T = self.successResultOf(self.begin(coroutine))
        return result

    def failure(self, coroutine: Coroutine[Any, Any, T], kind: type[Exception]) -> Any:
        return self.failureResultOf(self.begin(coroutine), kind).value

    def resolve(
        self, budget_seconds: float = 20, attempts: int = 1
    ) -> Coroutine[Any, Any, Descriptor | None]:
        return self.client.resolve(APP, LATEST, budget_seconds=budget_seconds, attempts=attempts)

    def fetch(self, reference: Tag | Digest = LATEST, attempts: int = 1) -> Coroutine[Any, Any, Any]:
        return self.client.fetch_manifest(APP, reference, budget_seconds=20, attempts=attempts)

    def blob(self, **options: Any) -> Coroutine[Any, Any, Any]:
        return self.client.fetch_blob(APP, DIGEST, budget_seconds=20, **options)

    @property
    def authorizations(self) -> list[str | None]:
        return [asked.authorization for asked in self.agent.asked]


class ManifestTests(ClientTestCase):
    def test_resolve(self) -> None:
        """HEAD tells what a tag names, and asks for every type of manifest there is."""
        self.use(HEAD)
        self.assertEqual(Descriptor(OCI_MANIFEST, DIGEST, len(BODY)), self.result(self.resolve()))
        self.assertEqual([f"HEAD {HOME}/v2/library/app/manifests/latest"], self.agent.lines)
        self.assertIn(OCI_INDEX, self.agent.asked[0].header("Accept") or "")
        self.assertEqual("identity", self.agent.asked[0].header("Accept-Encoding"))

    def test_resolve_without_headers(self) -> None:
        """Where HEAD leaves out the digest, the type or the length, or is not allowed, it tells nothing."""
        for name in HEAD.headers:
            self.use(Reply(200, {each: value for each, value in HEAD.headers.items() if each != name}))
            self.assertIsNone(self.result(self.resolve()), name)
        for reply in (Reply(405), Reply(200, {**HEAD.headers, "Content-Type": "text/html"})):
            self.use(reply)
            self.assertIsNone(self.result(self.resolve()))

    def test_fetch(self) -> None:
        """GET by tag gives the manifest, named by its digest."""
        self.use(MANIFEST)
        manifest = self.result(self.fetch())
        self.assertEqual((DIGEST, OCI_MANIFEST, BODY), (manifest.digest, manifest.media_type, manifest.body))

    def test_fetch_without_headers(self) -> None:
        """A manifest without a digest header and of a vague type is what its bytes say."""
        self.use(Reply(200, {"Content-Type": "text/plain"}, BODY, is_chunked=True))
        self.assertEqual(Descriptor(OCI_MANIFEST, DIGEST, len(BODY)), self.result(self.fetch()).descriptor)

    def test_wrong_bytes(self) -> None:
        """Bytes that are not what was asked for, or not what the header says, are corrupt."""
        self.use(Reply(200, {"Content-Type": OCI_MANIFEST}, BODY + b" "))
        self.failure(self.fetch(DIGEST), UpstreamCorrupt)
        self.use(Reply(200, MANIFEST.headers, BODY + b" "))
        self.failure(self.fetch(), UpstreamCorrupt)
        self.use(Reply(200, {**MANIFEST.headers, "Docker-Content-Digest": str(Digest.of(b""))}, BODY))
        self.failure(self.fetch(DIGEST), UpstreamCorrupt)

    def test_html(self) -> None:
        """A page of HTML in place of a manifest is no manifest, and no 404 either."""
        self.use(Reply(200, {"Content-Type": "text/html"}, b"<html>"))
        self.failure(self.fetch(), UpstreamRefused)

    def test_too_long(self) -> None:
        """A manifest beyond 4 MiB is refused."""
        self.use(Reply(200, MANIFEST.headers, b" " * (4 * 1024 * 1024 + 1)))
        self.failure(self.fetch(), UpstreamRefused)

    def test_statuses(self) -> None:
        """404 is unknown, 403 is denied, 5xx is a refusal that tells the status."""
        for status, kind in ((404, ManifestUnknown), (403, Denied), (503, UpstreamRefused)):
            self.use(Reply(status), Reply(status))
            self.failure(self.fetch(), kind)
            error = self.failure(self.resolve(), kind)
        self.assertEqual(503, error.upstream_status)

    def test_redirected(self) -> None:
        """A manifest may be redirected, and the target then speaks for the registry."""
        self.use(Reply(307, {"Location": "https://mirror.example/x"}), Reply(404))
        self.failure(self.fetch(), ManifestUnknown)


class RetryTests(ClientTestCase):
    def test_passing_failure(self) -> None:
        """What passes by itself is asked again, after a wait, as often as allowed."""
        self.use(Reply(503), Refused(), MANIFEST)
        fetching = self.begin(self.fetch(attempts=3))
        self.assertEqual(1, len(self.agent.asked))
        self.clock.pump([0.25, 0.5])
        self.assertEqual(DIGEST, self.successResultOf(fetching).digest)

        self.use(Reply(503), Reply(502), Reply(503))
        fetching = self.begin(self.fetch(attempts=2))
        self.clock.pump([1, 1])
        self.failureResultOf(fetching, UpstreamRefused)
        self.assertEqual(2, len(self.agent.asked))

    def test_definite(self) -> None:
        """What is definite is asked once."""
        self.use(Reply(404))
        self.failure(self.fetch(attempts=3), ManifestUnknown)

    def test_retry_after(self) -> None:
        """A Retry-After within the budget is waited for; one beyond it ends the call at once."""
        self.use(Reply(429, {"Retry-After": "3"}), MANIFEST)
        fetching = self.begin(self.fetch(attempts=3))
        self.clock.advance(2.9)
        self.assertEqual(1, len(self.agent.asked))
        self.clock.advance(0.1)
        self.successResultOf(fetching)

        self.use(Reply(429, {"Retry-After": "30"}))
        error = self.failure(self.fetch(attempts=3), UpstreamBusy)
        self.assertEqual(30, error.retry_after_seconds)

    def test_hanging(self) -> None:
        """A request without an answer is given up after ten seconds, and asked again."""
        self.use(Hang(), MANIFEST)
        fetching = self.begin(self.fetch(attempts=3))
        self.clock.advance(9.9)
        self.assertEqual(1, len(self.agent.asked))
        self.clock.pump([0.1, 0.5])
        self.successResultOf(fetching)

    def test_budget(self) -> None:
        """No call takes longer than its budget, whatever hangs."""
        self.use(*[Hang()] * 9)
        resolving = self.begin(self.resolve(budget_seconds=2.5, attempts=9))
        self.clock.pump([0.1] * 26)
        self.failureResultOf(resolving, UpstreamTimeout)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_cancelled(self) -> None:
        """A cancelled call cancels its request, is not tried again, and counts against nobody."""
        for _ in range(5):
            self.use(Hang())
            resolving = self.begin(self.resolve(attempts=3))
            resolving.cancel()
            self.failureResultOf(resolving, CancelledError)
            self.assertEqual([], self.clock.getDelayedCalls())
            self.assertEqual(1, len(self.agent.asked))
        self.assertEqual(GateState.CLOSED, self.client.status().others)


class CircuitTests(ClientTestCase):
    def test_opens(self) -> None:
        """After three failures nobody is asked, and held content is answered without asking."""
        self.use(Refused(), Refused(), Refused())
        for _ in range(3):
            self.failure(self.resolve(), UpstreamUnreachable)
        error = self.failure(self.blob(), CircuitOpen)

        self.assertTrue(0 < error.retry_after_seconds <= 5)
        self.assertTrue(self.client.is_doubtful(of_manifests=False))
        self.assertEqual(GateState.OPEN, self.client.status().others)

    def test_recovers(self) -> None:
        """After its time one request is let through, and its answer opens the way for all."""
        self.use(Refused(), Refused(), Refused(), HEAD, HEAD)
        for _ in range(3):
            self.failure(self.resolve(), UpstreamUnreachable)
        self.clock.advance(5)
        self.result(self.resolve())
        self.result(self.resolve())

    def test_pull_limit(self) -> None:
        """A 429 on a manifest GET leaves HEADs and blobs alone."""
        self.use(Reply(429, {"Retry-After": "60"}), HEAD, Reply(200, {}, b"blob"))
        self.failure(self.fetch(), UpstreamBusy)
        self.result(self.resolve())
        self.result(self.blob())
        error = self.failure(self.fetch(), UpstreamBusy)

        self.assertEqual(60, error.retry_after_seconds)
        self.assertEqual(3, len(self.agent.asked))

    def test_abuse_limit(self) -> None:
        """A 429 on a HEAD, and one of the token service, stop everything."""
        for script in ([Reply(429)], [challenge(), Reply(429)]):
            self.use(*script)
            self.failure(self.resolve(), UpstreamBusy)
            asked = len(self.agent.asked)
            self.failure(self.fetch(), UpstreamBusy)
            self.assertEqual(asked, len(self.agent.asked))

    def test_not_found_is_an_answer(self) -> None:
        """404, 401 and 403 are answers: they never open the circuit."""
        self.use(*[Reply(404), Reply(403), Reply(404), Reply(403)], HEAD)
        for kind in (ManifestUnknown, Denied) * 2:
            self.failure(self.resolve(), kind)
        self.result(self.resolve())

    def test_impatience(self) -> None:
        """Giving up early raises doubt and does not open the circuit."""
        self.use(*[Hang()] * 5)
        for _ in range(5):
            resolving = self.begin(self.resolve(budget_seconds=1))
            self.clock.advance(1)
            self.failureResultOf(resolving, UpstreamTimeout)

        self.assertTrue(self.client.is_doubtful(of_manifests=True))
        self.assertEqual(GateState.CLOSED, self.client.status().others)
        self.clock.advance(5)
        self.assertFalse(self.client.is_doubtful(of_manifests=True))


class AuthorizationTests(ClientTestCase):
    def test_bearer(self) -> None:
        """A challenge is met with a token, which later requests to the repository carry at once."""
        self.use(challenge(), token(), HEAD, MANIFEST)
        self.result(self.resolve())
        self.result(self.fetch())

        self.assertEqual([None, None, "Bearer t1", "Bearer t1"], self.authorizations)
        self.assertEqual(
            f"GET {REALM}/token?service=registry.example&scope=repository%3Alibrary%2Fapp%3Apull",
            self.agent.lines[1],
        )

    def test_one_token_for_many(self) -> None:
        """Many who wait for a token cost one request, and one who leaves harms nobody."""
        self.use(challenge(), Hang())
        waiting = [self.begin(self.resolve()) for _ in range(3)]
        self.assertEqual(2, len(self.agent.asked))
        waiting[0].cancel()
        self.failureResultOf(waiting[0], CancelledError)
        self.agent.add(HEAD, HEAD)
        self.agent.pending[0].callback(FakeResponse(token()))
        for each in waiting[1:]:
            self.successResultOf(each)
        self.assertEqual(4, len(self.agent.asked))

    def test_hanging_token(self) -> None:
        """One token request that hangs costs five seconds, not the pull."""
        self.use(challenge(), Hang(), token(), HEAD)
        resolving = self.begin(self.resolve())
        self.clock.pump([5, 0.25])
        self.successResultOf(resolving)

    def test_expiry(self) -> None:
        """A token is used until ten seconds before its end; without a word on that it lives for sixty."""
        self.use(challenge(), token(), HEAD, HEAD, token("t2", expires_in=300), HEAD, HEAD)
        self.result(self.resolve())
        self.clock.advance(49)
        self.result(self.resolve())
        self.clock.advance(1)
        self.result(self.resolve())
        self.clock.advance(289)
        self.result(self.resolve())

        self.assertEqual(
            ["Bearer t1"] * 2 + ["Bearer t2"] * 2, [each for each in self.authorizations if each]
        )

    def test_dropped_on_401(self) -> None:
        """A token that the registry does not take any more is replaced, once."""
        self.use(challenge(), token(), HEAD, challenge(), token("t2"), HEAD)
        self.result(self.resolve())
        self.clock.advance(1)
        self.result(self.resolve())

        self.assertEqual("Bearer t2", self.authorizations[-1])

    def test_missing_repository(self) -> None:
        """A 401 to a fresh token means that there is no such repository for us."""
        self.use(challenge(), token(), challenge())
        self.failure(self.resolve(attempts=3), Denied)
        self.assertEqual(3, len(self.agent.asked))

    def test_access_token(self) -> None:
        """A token may be called access_token; a body without either, or no JSON, is refused."""
        self.use(challenge(), Reply(200, {}, b'{"access_token": "t9"}'), HEAD)
        self.result(self.resolve())
        self.assertEqual("Bearer t9", self.authorizations[-1])
        for body in (b"{}", b"[]", b"<html>", b'{"token": "a\\r\\nX: y"}', b'{"token": 5}', b"[" * 100_000):
            self.use(challenge(), *[Reply(200, {}, body)] * 3)
            resolving = self.begin(self.resolve())
            self.clock.pump([1, 1])
            self.failureResultOf(resolving, UpstreamRefused)

    def test_own_account(self) -> None:
        """Our account goes to the upstream's own host, and to the configured realm."""
        own = f"{HOME}/token"
        for realm, options in ((own, {}), (f"{REALM}/token", {"realm": REALM})):
            self.use(challenge(realm=realm), token(), HEAD, account=ME, **options)
            self.result(self.resolve())
            self.assertEqual([None, BASIC, "Bearer t1"], self.authorizations)

    def test_foreign_realm(self) -> None:
        """A realm on another host is asked as nobody, and never gets our account."""
        for realm in (f"{REALM}/token", "https://registry.example.evil.example/", "https://evil.example/"):
            self.use(challenge(realm=realm), token(), HEAD, account=ME)
            self.result(self.resolve())
            self.assertEqual([None, None, "Bearer t1"], self.authorizations)

    def test_plain_realm(self) -> None:
        """A https upstream leads to no http realm; a http one may, on its own host."""
        self.use(challenge(realm="http://registry.example/token"), account=ME)
        self.failure(self.resolve(), UpstreamRefused)
        self.assertEqual(1, len(self.agent.asked))

        plain = "http://registry.example"
        self.use(challenge(realm=f"{plain}/token"), token(), HEAD, account=ME, url=plain)
        self.result(self.resolve())
        self.assertEqual(BASIC, self.authorizations[1])
        self.use(challenge(realm="http://auth.example/"), token(), HEAD, account=ME, url=plain, realm=REALM)
        self.result(self.resolve())
        self.assertIsNone(self.authorizations[1])

    def test_realm_redirects(self) -> None:
        """A token service that redirects to another origin does not take our account there."""
        self.use(
            challenge(realm=f"{HOME}/token"),
            Reply(302, {"Location": "https://evil.example/"}),
            token(),
            HEAD,
            account=ME,
        )
        self.result(self.resolve())
        self.assertEqual([None, BASIC, None, "Bearer t1"], self.authorizations)

    def test_refused_account(self) -> None:
        """A token service that refuses our account failed us; one that refuses nobody's request denies it."""
        for status in (401, 403):
            self.use(challenge(realm=f"{HOME}/token"), Reply(status), account=ME)
            self.failure(self.resolve(attempts=3), AccountRefused)
            self.use(challenge(), Reply(status))
            self.failure(self.resolve(attempts=3), Denied)

    def test_basic(self) -> None:
        """A Basic challenge is met with our account, on the upstream's own origin only."""
        ask = Reply(401, {"WWW-Authenticate": 'Basic realm="x"'})
        self.use(ask, Reply(307, {"Location": CDN}), Reply(200, {}, b"blob"), account=ME)
        self.result(self.blob())
        self.assertEqual([None, BASIC, None], self.authorizations)

        self.use(ask, ask, account=ME)
        self.failure(self.resolve(), AccountRefused)
        self.use(ask)
        self.failure(self.resolve(), Denied)

    def test_challenge_by_ping(self) -> None:
        """Where a 401 brings no challenge, that of /v2/ is met, for the scope of the repository."""
        self.use(Reply(401), challenge(scope=None), token(), HEAD)
        self.result(self.resolve())
        self.assertEqual(f"GET {HOME}/v2/", self.agent.lines[1])
        self.assertIn("scope=repository%3Alibrary%2Fapp%3Apull", self.agent.lines[2])

        self.use(Reply(401), Reply(200))
        self.failure(self.resolve(), Denied)

    def test_private_realm(self) -> None:
        """A public upstream leads to no realm in our own network."""
        self.use(challenge(realm="https://169.254.169.254/latest"))
        resolving = self.begin(self.resolve())
        self.clock.pump([1, 1])
        self.failureResultOf(resolving, UpstreamRefused)
        self.assertEqual(1, len(self.agent.asked))

    def test_secrets_stay(self) -> None:
        """Neither the client nor its errors show the password or a token."""
        self.use(challenge(realm=f"{HOME}/token"), token("sesame"), Reply(500), account=ME)
        error = self.failure(self.resolve(), UpstreamRefused)
        shown = f"{error!r} {self.client.status()!r} {vars(self.client)!r}"
        self.assertNotIn("sesame", shown)
        self.assertNotIn("s3cret", shown)


class BlobTests(ClientTestCase):
    def test_redirected(self) -> None:
        """A blob is fetched where the registry keeps it, verbatim, without our token."""
        self.use(
            challenge(),
            token(),
            Reply(307, {"Location": CDN}, b"see there"),
            Reply(200, {"ETag": '"e"'}, b"blob"),
        )
        body = self.result(self.blob())
        self.assertEqual((0, 4, 'https://cdn.example "e"'), (body.offset, body.size, body.validator))
        self.assertEqual(b"blob", self.result(body.read()))
        self.assertEqual(b"", self.result(body.read()))
        self.assertEqual(f"GET {CDN}", self.agent.lines[-1])
        self.assertEqual([None, None, "Bearer t1", None], self.authorizations)

    def test_range(self) -> None:
        """A range is asked for at every hop, the validator only where it came from."""
        part = Reply(206, {"Content-Range": "bytes 2-3/10"}, b"cd")
        self.use(Reply(307, {"Location": CDN}), part)
        body = self.result(self.blob(offset=2, stop=4, validator='https://cdn.example "e"'))
        self.assertEqual((2, 10), (body.offset, body.size))
        self.assertEqual(["bytes=2-3"] * 2, [asked.header("Range") for asked in self.agent.asked])
        self.assertEqual([None, '"e"'], [asked.header("If-Range") for asked in self.agent.asked])

    def test_range_ignored(self) -> None:
        """Where the range is ignored, the body begins at nought."""
        self.use(Reply(200, {}, b"0123456789"))
        self.assertEqual(0, self.result(self.blob(offset=2)).offset)

    def test_wrong_range(self) -> None:
        """Another range than asked for is refused, and one that nothing fits is told as 416."""
        self.use(Reply(206, {"Content-Range": "bytes 3-9/10"}, b"3456789"))
        self.failure(self.blob(offset=2), UpstreamRefused)
        self.use(Reply(206, {}, b"?"))
        self.failure(self.blob(offset=2), UpstreamRefused)
        self.use(Reply(416))
        self.assertEqual(416, self.failure(self.blob(offset=2), UpstreamRefused).upstream_status)

    def test_expired_url(self) -> None:
        """A URL that the store does not take any more is asked for anew, once."""
        redirect = Reply(307, {"Location": CDN})
        for status in (400, 403, 410):
            self.use(redirect, Reply(status), redirect, Reply(200, {}, b"blob"))
            self.result(self.blob())
            self.use(redirect, Reply(status), redirect, Reply(status))
            self.assertEqual(status, self.failure(self.blob(), UpstreamRefused).upstream_status)

    def test_definite(self) -> None:
        """The registry's own 404 and 403 are definite."""
        for status, kind in ((404, BlobUnknown), (403, Denied)):
            self.use(Reply(status))
            self.failure(self.blob(), kind)

    def test_no_downgrade(self) -> None:
        """A redirect from https to http is not followed, nor are more than five."""
        self.use(Reply(307, {"Location": "http://cdn.example/"}))
        self.failure(self.blob(), UpstreamRefused)
        self.use(*[Reply(307, {"Location": CDN})] * 6)
        self.failure(self.blob(), UpstreamRefused)
        self.assertEqual(6, len(self.agent.asked))

    def test_private_target(self) -> None:
        """A public upstream is not followed into our own network; one on a private address is, there."""
        for target in (
            "https://127.0.0.1/",
            "https://10.0.0.1/",
            "https://[::1]/",
            "https://localhost/",
            "https://2130706433/",
        ):
            self.use(Reply(307, {"Location": target}))
            self.failure(self.blob(), UpstreamRefused)
            self.assertEqual(1, len(self.agent.asked))
        self.use(Reply(307, {"Location": "https://10.0.0.2/"}), Reply(200, {}, b"b"), url="https://10.0.0.1")
        self.result(self.blob())

    def test_head(self) -> None:
        """HEAD tells a blob's size; a 404 of the registry is definite."""
        self.use(Reply(200, {"Content-Length": "7"}))
        self.assertEqual(7, self.result(self.client.head_blob(APP, DIGEST, budget_seconds=5)))
        self.use(Reply(404))
        self.failure(self.client.head_blob(APP, DIGEST, budget_seconds=5), BlobUnknown)

    def test_head_refused(self) -> None:
        """Where HEAD is refused, the first byte's Content-Range tells the size."""
        part = Reply(206, {"Content-Range": "bytes 0-0/7"}, b"a")
        redirect = Reply(307, {"Location": CDN})
        for script in (
            [Reply(405), part],
            [Reply(403), part],
            [Reply(500), part],
            [redirect, Reply(403), redirect, part],
            [challenge(), token(), challenge(), part],
            [Reply(405), Reply(200, {}, b"1234567")],
        ):
            self.use(*script)
            self.assertEqual(7, self.result(self.client.head_blob(APP, DIGEST, budget_seconds=5)))
        self.use(Reply(405), Reply(416, {"Content-Range": "bytes */0"}))
        self.assertEqual(0, self.result(self.client.head_blob(APP, DIGEST, budget_seconds=5)))
        self.use(Reply(405), Reply(404))
        self.failure(self.client.head_blob(APP, DIGEST, budget_seconds=5), BlobUnknown)


class ListTests(ClientTestCase):
    def tags(self) -> Coroutine[Any, Any, list[str]]:
        return self.client.list_tags(APP, budget_seconds=5)

    def test_pages(self) -> None:
        """All pages are followed as their links stand, and the tags sorted."""
        link = {"Link": '</v2/library/app/tags/list?next_page=x%2Fy>; rel="next"'}
        self.use(Reply(200, link, b'{"tags": ["b", "a"]}'), Reply(200, {}, b'{"tags": ["c", "a", 5]}'))
        self.assertEqual(["a", "b", "c"], self.result(self.tags()))
        self.assertEqual(f"GET {HOME}/v2/library/app/tags/list?next_page=x%2Fy", self.agent.lines[1])

    def test_no_tags(self) -> None:
        """A repository without tags has none; one that is not there is unknown."""
        self.use(Reply(200, {}, b'{"name": "library/app", "tags": null}'))
        self.assertEqual([], self.result(self.tags()))
        self.use(Reply(404))
        self.failure(self.tags(), NameUnknown)

    def test_bad_links(self) -> None:
        """A link to another host, or to a page that was seen, ends the call."""
        for target in ("https://evil.example/", "http://registry.example/", "?n=1000"):
            self.use(*[Reply(200, {"Link": f"<{target}>; rel=next"}, b'{"tags": []}')] * 2)
            listing = self.begin(self.tags())
            self.clock.advance(1)
            self.failureResultOf(listing, UpstreamRefused)

    def test_endless(self) -> None:
        """A list without end is given up, by its pages or by the budget."""
        self.use()
        count = iter(range(10_000))

        def page(_: Asked) -> Reply:
            return Reply(200, {"Link": f"<?p={next(count)}>; rel=next"}, b'{"tags": []}')

        self.agent._always = page
        self.failure(self.client.list_tags(APP, budget_seconds=0.3), UpstreamRefused)
        self.assertLessEqual(len(self.agent.asked), 1000)

    def test_referrers(self) -> None:
        """The pages of referrers are one index; whether they were filtered is told."""
        first = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{"a": 1}]}
        second = {**first, "manifests": [{"b": 2}]}
        filtered = {"OCI-Filters-Applied": "artifactType"}
        self.use(
            Reply(200, {"Link": '<?p=2>; rel="next"', **filtered}, json.dumps(first).encode()),
            Reply(200, filtered, json.dumps(second).encode()),
        )
        body, is_filtered = self.result(self.client.list_referrers(APP, DIGEST, "a/b", budget_seconds=5))
        self.assertEqual({**first, "manifests": [{"a": 1}, {"b": 2}]}, json.loads(body))
        self.assertTrue(is_filtered)
        self.assertEqual(
            f"GET {HOME}/v2/library/app/referrers/{DIGEST}?artifactType=a%2Fb", self.agent.lines[0]
        )

    def test_one_page_is_verbatim(self) -> None:
        """A single page of referrers stays as it was sent."""
        sent = b'{ "manifests": [] , "mediaType": "x"}'
        self.use(Reply(200, {}, sent))
        self.assertEqual(
            (sent, False), self.result(self.client.list_referrers(APP, DIGEST, None, budget_seconds=5))
        )

    def test_no_referrers(self) -> None:
        """An upstream without the API says so in many ways; a failing one is no 404."""
        for reply in (Reply(404), Reply(405), Reply(400), Reply(303, {"Location": "https://github.com/"})):
            self.use(reply)
            self.failure(self.client.list_referrers(APP, DIGEST, None, budget_seconds=5), ManifestUnknown)
            self.assertEqual(1, len(self.agent.asked))
        self.use(Reply(200, {}, b"<html>"), Reply(200, {}, b"<html>"))
        listing = self.begin(self.client.list_referrers(APP, DIGEST, None, budget_seconds=5))
        self.clock.advance(1)
        self.failureResultOf(listing, UpstreamRefused)


class StatusTests(ClientTestCase):
    def test_quota(self) -> None:
        """The quota of the last answer that told one is kept."""
        self.use(Reply(200, {**HEAD.headers, "ratelimit-remaining": "76;w=21600"}), HEAD)
        self.assertEqual("unknown", str(self.client.status().quota))
        self.result(self.resolve())
        self.result(self.resolve())
        self.assertEqual(76, self.client.status().quota.remaining)

    def test_metrics(self) -> None:
        """Every request is counted by what it was for and how it ended."""
        self.use(challenge(), token(), Reply(307, {"Location": CDN}), Reply(200, {}, b"blob"), Refused())
        self.result(self.blob())
        self.failure(self.resolve(), UpstreamUnreachable)
        registry = self.client._api.wire._metrics.registry

        def count(kind: str, result: str) -> float | None:
            labels = {"upstream": "registry.example", "kind": kind, "result": result}
            return registry.get_sample_value("mirrord_upstream_requests_total", labels)

        self.assertEqual(
            [1, 1, 1, 1, 1],
            [
                count("blob", "4xx"),
                count("token", "2xx"),
                count("blob", "3xx"),
                count("blob", "2xx"),
                count("manifest", "failed"),
            ],
        )

    def test_last_error(self) -> None:
        """The last failure is told, and nothing in it is secret."""
        self.use(Refused())
        self.failure(self.resolve(), UpstreamUnreachable)
        self.assertIn("refuses connections", self.client.status().last_error or "")

    def test_close(self) -> None:
        """Closing ends, with nothing left behind."""
        self.use()
        self.successResultOf(self.client.close())
        self.assertEqual([], self.clock.getDelayedCalls())
