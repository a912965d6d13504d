"""The checks of the OCI conformance suite (distribution-spec, conformance/) for blobs, with a real daemon.

They are those of OCI_VERSION=dev with all APIs and all kinds of data but sparse; the checks for manifests,
tags and referrers are in test_conformance_manifests.py.
"""

from tests.integration.pushing import OCTETS, HostedCase, digest_of

CONTENT = bytes(range(256)) * 40


class PingTests(HostedCase):
    def test_ping(self) -> None:
        """`/v2/` is 200."""
        self.assertEqual(200, self.pusher.request("GET", "/v2/").status)


class UploadTests(HostedCase):
    def test_post_put(self) -> None:
        """A blob is pushed by POST and then PUT, and can be pulled from its Location."""
        location = self.pusher.begin(self.repository)
        digest = digest_of(CONTENT)
        response = self.pusher.request("PUT", f"{location}?digest={digest}", CONTENT, Content_Type=OCTETS)

        self.assertEqual(201, response.status)
        self.assertEqual(digest, response.header("Docker-Content-Digest"))
        self.assertEqual(CONTENT, self.pusher.request("GET", response.header("Location")).body)
        self.assert_blob(CONTENT)

    def test_single_post(self) -> None:
        """A blob is pushed by a single POST."""
        path = self.path("blobs", f"uploads/?digest={digest_of(CONTENT)}")
        response = self.pusher.request("POST", path, CONTENT, Content_Type=OCTETS)

        self.assertEqual(201, response.status)
        self.assert_blob(CONTENT)

    def test_single_post_wrong(self) -> None:
        """A single POST whose content does not match its digest is 400, and stores nothing."""
        digest = digest_of(b"other")
        response = self.pusher.request("POST", self.path("blobs", f"uploads/?digest={digest}"), CONTENT)

        self.assert_error(response, 400, "DIGEST_INVALID")
        self.assertEqual(404, self.pusher.request("HEAD", self.path("blobs", digest)).status)

    def test_chunked(self) -> None:
        """A blob is pushed in chunks with Content-Range, the last one with the PUT."""
        location = self.pusher.begin(self.repository)
        for first, last in ((0, 999), (1000, 4999)):
            chunk = CONTENT[first : last + 1]
            response = self.pusher.request("PATCH", location, chunk, Content_Range=f"{first}-{last}")
            self.assertEqual((202, f"0-{last}"), (response.status, response.header("Range")))
            location = response.header("Location")
        response = self.pusher.request(
            "PUT",
            f"{location}?digest={digest_of(CONTENT)}",
            CONTENT[5000:],
            Content_Range=f"5000-{len(CONTENT) - 1}",
        )

        self.assertEqual(201, response.status)
        self.assert_blob(CONTENT)

    def test_stream(self) -> None:
        """A blob is pushed by a PATCH of unknown length and an empty PUT."""
        location = self.pusher.begin(self.repository)
        response = self.pusher.request("PATCH", location, iter([CONTENT[:3000], CONTENT[3000:]]))
        self.assertEqual((202, f"0-{len(CONTENT) - 1}"), (response.status, response.header("Range")))
        response = self.pusher.request("PUT", f"{response.header('Location')}?digest={digest_of(CONTENT)}")

        self.assertEqual(201, response.status)
        self.assert_blob(CONTENT)

    def test_first_out_of_order(self) -> None:
        """A first chunk that does not begin at 0 is 416; the upload is unchanged and can be continued."""
        location = self.pusher.begin(self.repository)
        response = self.pusher.request("PATCH", location, CONTENT[1000:2000], Content_Range="1000-1999")
        self.assert_error(response, 416, "RANGE_INVALID")
        self.pusher.close()
        response = self.pusher.request("GET", location)
        self.assertEqual((204, "0-0"), (response.status, response.header("Range")))
        response = self.pusher.request("PATCH", location, CONTENT[:1000], Content_Range="0-999")
        self.assertEqual((202, "0-999"), (response.status, response.header("Range")))
        response = self.pusher.request("PUT", f"{location}?digest={digest_of(CONTENT)}", CONTENT[1000:])

        self.assertEqual(201, response.status)
        self.assert_blob(CONTENT)

    def test_last_out_of_order(self) -> None:
        """A PUT whose chunk is out of order is 416; the upload is unchanged and can be completed."""
        location = self.pusher.begin(self.repository)
        put = f"{location}?digest={digest_of(CONTENT)}"
        self.pusher.request("PATCH", location, CONTENT[:1000], Content_Range="0-999")
        response = self.pusher.request("PUT", put, CONTENT[1000:], Content_Range=f"500-{len(CONTENT) - 501}")
        self.assert_error(response, 416, "RANGE_INVALID")
        self.assertEqual("0-999", response.header("Range"))
        response = self.pusher.request("PUT", put, CONTENT[1000:], Content_Range=f"1000-{len(CONTENT) - 1}")

        self.assertEqual(201, response.status)
        self.assert_blob(CONTENT)

    def test_wrong_length(self) -> None:
        """A chunk whose length does not match its Content-Range is 400."""
        location = self.pusher.begin(self.repository)
        response = self.pusher.request("PATCH", location, CONTENT[:10], Content_Range="0-10")

        self.assert_error(response, 400, "SIZE_INVALID")

    def test_wrong_digest(self) -> None:
        """A PUT without a digest, or with another one, is 400; with the right digest it is then 201."""
        location = self.pusher.begin(self.repository)
        self.pusher.request("PATCH", location, CONTENT)
        for query in ("", f"?digest={digest_of(b'other')}", "?digest=sha256:baddigest"):
            self.assert_error(self.pusher.request("PUT", f"{location}{query}"), 400, "DIGEST_INVALID")

        response = self.pusher.request("PUT", f"{location}?digest={digest_of(CONTENT)}")
        self.assertEqual(201, response.status)

    def test_status(self) -> None:
        """The Range of an upload without content is 0-0, since no range ends before it begins."""
        location = self.pusher.begin(self.repository)
        response = self.pusher.request("GET", location)

        self.assertEqual((204, "0-0"), (response.status, response.header("Range")))
        self.assertEqual(location, response.header("Location"))

    def test_cancel(self) -> None:
        """A cancelled upload is a 404, and so is an unknown one, or one of another repository."""
        location = self.pusher.begin(self.repository)
        self.assertEqual(
            404, self.pusher.request("GET", location.replace(self.repository, "conf/else")).status
        )
        self.assertEqual(204, self.pusher.request("DELETE", location).status)

        for method in ("GET", "DELETE", "PATCH", "PUT"):
            query = f"?digest={digest_of(b'')}" if method == "PUT" else ""
            response = self.pusher.request(method, location + query)
            self.assert_error(response, 404, "BLOB_UPLOAD_UNKNOWN")

    def test_empty(self) -> None:
        """The empty blob is pushed and pulled like others, with a Content-Length of 0."""
        response = self.pusher.request("POST", self.path("blobs", f"uploads/?digest={digest_of(b'')}"), b"")
        self.assertEqual(201, response.status)
        self.pusher.push_blob(self.repository, b"")

        self.assert_blob(b"")

    def test_sha512(self) -> None:
        """A blob is pushed and pulled by its sha512, with and without digest-algorithm."""
        self.pusher.push_blob(self.repository, CONTENT, "sha512")
        response = self.pusher.request("POST", self.path("blobs", "uploads/?digest-algorithm=sha512"))
        digest = digest_of(b"announced", "sha512")
        put = self.pusher.request("PUT", f"{response.header('Location')}?digest={digest}", b"announced")

        self.assertEqual((202, 201), (response.status, put.status))
        self.assert_blob(CONTENT, "sha512")
        self.assert_blob(b"announced", "sha512")
        self.assertEqual(404, self.pusher.request("HEAD", self.path("blobs", digest_of(CONTENT))).status)


class MountTests(HostedCase):
    def mount(self, digest: str, origin: str | None = None) -> int:
        source = "" if origin is None else f"&from={origin}"
        return self.pusher.request("POST", self.path("blobs", f"uploads/?mount={digest}{source}")).status

    def test_mount(self) -> None:
        """A blob mounted from another repository can be pulled."""
        self.pusher.push_blob("conf/mounted", b"mounted")

        self.assertEqual(201, self.mount(digest_of(b"mounted"), "conf/mounted"))
        self.assert_blob(b"mounted")

    def test_anonymous(self) -> None:
        """A mount without `from` finds the blob in any repository."""
        self.pusher.push_blob("conf/mounted", b"anonymous")

        self.assertEqual(201, self.mount(digest_of(b"anonymous")))
        self.assert_blob(b"anonymous")

    def test_unknown(self) -> None:
        """A mount of a blob that is not in the named repository, or nowhere, begins an upload."""
        self.pusher.push_blob("conf/mounted", b"elsewhere")
        for digest, origin in (
            (digest_of(b"never"), "conf/mounted"),
            (digest_of(b"never"), None),
            (digest_of(b"elsewhere"), "conf/never"),
            (digest_of(b"elsewhere"), "library/x"),
        ):
            self.assertEqual(202, self.mount(digest, origin))


class ReadingTests(HostedCase):
    def test_ranges(self) -> None:
        """Ranges of a blob are 206 with Content-Range; unsatisfiable ones are 416."""
        digest, size = self.pusher.push_blob(self.repository, CONTENT), len(CONTENT)
        for range_set, first, stop in (
            ("0-", 0, size),
            (f"0-{size - 1}", 0, size),
            ("2000-5000", 2000, 5001),
            ("500-", 500, size),
            ("-500", size - 500, size),
        ):
            response = self.pusher.request("GET", self.path("blobs", digest), Range=f"bytes={range_set}")
            self.assertEqual((206, CONTENT[first:stop]), (response.status, response.body), range_set)
            self.assertEqual(f"bytes {first}-{stop - 1}/{size}", response.header("Content-Range"))
            self.assertEqual(str(stop - first), response.header("Content-Length"))
        for range_set in ("500-0", f"{size}-{size + 500}"):
            response = self.pusher.request("GET", self.path("blobs", digest), Range=f"bytes={range_set}")
            self.assertEqual(416, response.status, range_set)

    def test_absent(self) -> None:
        """GET, HEAD and DELETE of an unknown blob are 404, and so are those of another repository's."""
        self.pusher.push_blob("conf/mounted", b"only there")
        for content in (b"nowhere", b"only there"):
            for method in ("GET", "HEAD", "DELETE"):
                response = self.pusher.request(method, self.path("blobs", digest_of(content)))
                self.assertEqual(404, response.status)

    def test_delete(self) -> None:
        """A deleted blob is a 404 at once, but not in other repositories."""
        digest = self.pusher.push_blob(self.repository, b"deleted")
        self.pusher.push_blob("conf/mounted", b"deleted")
        self.assertEqual(202, self.pusher.request("DELETE", self.path("blobs", digest)).status)

        self.assertEqual(404, self.pusher.request("HEAD", self.path("blobs", digest)).status)
        self.assertEqual(200, self.pusher.request("HEAD", f"/v2/conf/mounted/blobs/{digest}").status)
