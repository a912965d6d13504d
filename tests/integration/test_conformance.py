"""The checks of the OCI conformance suite (distribution-spec, conformance/), before a real daemon: blobs.

What the suite asks of OCI_VERSION=dev with all APIs and all kinds of data but sparse; that of manifests,
tags and referrers is in test_conformance_manifests.py.
"""

from tests.integration.pushing import OCTETS, HostedCase, digest_of

CONTENT = bytes(range(256)) * 40


class PingTests(HostedCase):
    def test_ping(self) -> None:
        """`/v2/` is 200."""
        self.assertEqual(200, self.pusher.ask("GET", "/v2/").status)


class UploadTests(HostedCase):
    def test_post_put(self) -> None:
        """A blob is pushed by POST and then PUT, and its location leads to it."""
        location = self.pusher.begin(self.repository)
        digest = digest_of(CONTENT)
        said = self.pusher.ask("PUT", f"{location}?digest={digest}", CONTENT, Content_Type=OCTETS)

        self.assertEqual(201, said.status)
        self.assertEqual(digest, said.header("Docker-Content-Digest"))
        self.assertEqual(CONTENT, self.pusher.ask("GET", said.header("Location")).body)
        self.assert_blob(CONTENT)

    def test_single_post(self) -> None:
        """A blob is pushed by a single POST."""
        path = self.path("blobs", f"uploads/?digest={digest_of(CONTENT)}")
        said = self.pusher.ask("POST", path, CONTENT, Content_Type=OCTETS)

        self.assertEqual(201, said.status)
        self.assert_blob(CONTENT)

    def test_single_post_wrong(self) -> None:
        """A single POST of other bytes than its digest names is 400, and nothing of it is there."""
        digest = digest_of(b"other")
        said = self.pusher.ask("POST", self.path("blobs", f"uploads/?digest={digest}"), CONTENT)

        self.assert_error(said, 400, "DIGEST_INVALID")
        self.assertEqual(404, self.pusher.ask("HEAD", self.path("blobs", digest)).status)

    def test_chunked(self) -> None:
        """A blob is pushed in chunks with Content-Range, the last one with the PUT."""
        location = self.pusher.begin(self.repository)
        for first, last in ((0, 999), (1000, 4999)):
            chunk = CONTENT[first : last + 1]
            said = self.pusher.ask("PATCH", location, chunk, Content_Range=f"{first}-{last}")
            self.assertEqual((202, f"0-{last}"), (said.status, said.header("Range")))
            location = said.header("Location")
        said = self.pusher.ask(
            "PUT",
            f"{location}?digest={digest_of(CONTENT)}",
            CONTENT[5000:],
            Content_Range=f"5000-{len(CONTENT) - 1}",
        )

        self.assertEqual(201, said.status)
        self.assert_blob(CONTENT)

    def test_stream(self) -> None:
        """A blob is pushed by a PATCH of unknown length and an empty PUT."""
        location = self.pusher.begin(self.repository)
        said = self.pusher.ask("PATCH", location, iter([CONTENT[:3000], CONTENT[3000:]]))
        self.assertEqual((202, f"0-{len(CONTENT) - 1}"), (said.status, said.header("Range")))
        said = self.pusher.ask("PUT", f"{said.header('Location')}?digest={digest_of(CONTENT)}")

        self.assertEqual(201, said.status)
        self.assert_blob(CONTENT)

    def test_first_out_of_order(self) -> None:
        """A first chunk that is not the first is 416; the upload is then where it was, and goes on."""
        location = self.pusher.begin(self.repository)
        said = self.pusher.ask("PATCH", location, CONTENT[1000:2000], Content_Range="1000-1999")
        self.assert_error(said, 416, "RANGE_INVALID")
        self.pusher.close()
        said = self.pusher.ask("GET", location)
        self.assertEqual((204, "0-0"), (said.status, said.header("Range")))
        said = self.pusher.ask("PATCH", location, CONTENT[:1000], Content_Range="0-999")
        self.assertEqual((202, "0-999"), (said.status, said.header("Range")))
        said = self.pusher.ask("PUT", f"{location}?digest={digest_of(CONTENT)}", CONTENT[1000:])

        self.assertEqual(201, said.status)
        self.assert_blob(CONTENT)

    def test_last_out_of_order(self) -> None:
        """A PUT whose chunk is out of order is 416, and the session is usable."""
        location = self.pusher.begin(self.repository)
        put = f"{location}?digest={digest_of(CONTENT)}"
        self.pusher.ask("PATCH", location, CONTENT[:1000], Content_Range="0-999")
        said = self.pusher.ask("PUT", put, CONTENT[1000:], Content_Range=f"500-{len(CONTENT) - 501}")
        self.assert_error(said, 416, "RANGE_INVALID")
        self.assertEqual("0-999", said.header("Range"))
        said = self.pusher.ask("PUT", put, CONTENT[1000:], Content_Range=f"1000-{len(CONTENT) - 1}")

        self.assertEqual(201, said.status)
        self.assert_blob(CONTENT)

    def test_wrong_length(self) -> None:
        """A chunk that is not as long as its Content-Range says is 400."""
        location = self.pusher.begin(self.repository)
        said = self.pusher.ask("PATCH", location, CONTENT[:10], Content_Range="0-10")

        self.assert_error(said, 400, "SIZE_INVALID")

    def test_wrong_digest(self) -> None:
        """A PUT with another digest is 400, one without any too; with the right one it is then 201."""
        location = self.pusher.begin(self.repository)
        self.pusher.ask("PATCH", location, CONTENT)
        for query in ("", f"?digest={digest_of(b'other')}", "?digest=sha256:baddigest"):
            self.assert_error(self.pusher.ask("PUT", f"{location}{query}"), 400, "DIGEST_INVALID")

        said = self.pusher.ask("PUT", f"{location}?digest={digest_of(CONTENT)}")
        self.assertEqual(201, said.status)

    def test_status(self) -> None:
        """An upload tells how far it is: 0-0 at first, for no range ends before it begins."""
        location = self.pusher.begin(self.repository)
        said = self.pusher.ask("GET", location)

        self.assertEqual((204, "0-0"), (said.status, said.header("Range")))
        self.assertEqual(location, said.header("Location"))

    def test_cancel(self) -> None:
        """A cancelled upload is gone, and so is one that never was, or is another repository's."""
        location = self.pusher.begin(self.repository)
        self.assertEqual(404, self.pusher.ask("GET", location.replace(self.repository, "conf/else")).status)
        self.assertEqual(204, self.pusher.ask("DELETE", location).status)

        for method in ("GET", "DELETE", "PATCH", "PUT"):
            query = f"?digest={digest_of(b'')}" if method == "PUT" else ""
            said = self.pusher.ask(method, location + query)
            self.assert_error(said, 404, "BLOB_UPLOAD_UNKNOWN")

    def test_empty(self) -> None:
        """The empty blob is one like others: its length is told as 0."""
        said = self.pusher.ask("POST", self.path("blobs", f"uploads/?digest={digest_of(b'')}"), b"")
        self.assertEqual(201, said.status)
        self.pusher.push_blob(self.repository, b"")

        self.assert_blob(b"")

    def test_sha512(self) -> None:
        """A blob is pushed by its sha512, announced or not, and known by that."""
        self.pusher.push_blob(self.repository, CONTENT, "sha512")
        said = self.pusher.ask("POST", self.path("blobs", "uploads/?digest-algorithm=sha512"))
        digest = digest_of(b"announced", "sha512")
        put = self.pusher.ask("PUT", f"{said.header('Location')}?digest={digest}", b"announced")

        self.assertEqual((202, 201), (said.status, put.status))
        self.assert_blob(CONTENT, "sha512")
        self.assert_blob(b"announced", "sha512")
        self.assertEqual(404, self.pusher.ask("HEAD", self.path("blobs", digest_of(CONTENT))).status)


class MountTests(HostedCase):
    def mount(self, digest: str, origin: str | None = None) -> int:
        source = "" if origin is None else f"&from={origin}"
        return self.pusher.ask("POST", self.path("blobs", f"uploads/?mount={digest}{source}")).status

    def test_mount(self) -> None:
        """A blob of another repository is mounted, and is then this one's too."""
        self.pusher.push_blob("conf/mounted", b"mounted")

        self.assertEqual(201, self.mount(digest_of(b"mounted"), "conf/mounted"))
        self.assert_blob(b"mounted")

    def test_anonymous(self) -> None:
        """A blob is mounted from wherever it is when nobody says from where."""
        self.pusher.push_blob("conf/mounted", b"anonymous")

        self.assertEqual(201, self.mount(digest_of(b"anonymous")))
        self.assert_blob(b"anonymous")

    def test_unknown(self) -> None:
        """A mount of what is not there, or not there, begins an upload."""
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
        """Ranges of a blob are 206 with what they are; those that hold no byte are 416."""
        digest, size = self.pusher.push_blob(self.repository, CONTENT), len(CONTENT)
        for asked, first, stop in (
            ("0-", 0, size),
            (f"0-{size - 1}", 0, size),
            ("2000-5000", 2000, 5001),
            ("500-", 500, size),
            ("-500", size - 500, size),
        ):
            said = self.pusher.ask("GET", self.path("blobs", digest), Range=f"bytes={asked}")
            self.assertEqual((206, CONTENT[first:stop]), (said.status, said.body), asked)
            self.assertEqual(f"bytes {first}-{stop - 1}/{size}", said.header("Content-Range"))
            self.assertEqual(str(stop - first), said.header("Content-Length"))
        for asked in ("500-0", f"{size}-{size + 500}"):
            said = self.pusher.ask("GET", self.path("blobs", digest), Range=f"bytes={asked}")
            self.assertEqual(416, said.status, asked)

    def test_absent(self) -> None:
        """A blob that is not there is 404 by GET, HEAD and DELETE, and so is one of another repository."""
        self.pusher.push_blob("conf/mounted", b"only there")
        for content in (b"nowhere", b"only there"):
            for method in ("GET", "HEAD", "DELETE"):
                said = self.pusher.ask(method, self.path("blobs", digest_of(content)))
                self.assertEqual(404, said.status)

    def test_delete(self) -> None:
        """A deleted blob is 404 at once, here and nowhere else."""
        digest = self.pusher.push_blob(self.repository, b"deleted")
        self.pusher.push_blob("conf/mounted", b"deleted")
        self.assertEqual(202, self.pusher.ask("DELETE", self.path("blobs", digest)).status)

        self.assertEqual(404, self.pusher.ask("HEAD", self.path("blobs", digest)).status)
        self.assertEqual(200, self.pusher.ask("HEAD", f"/v2/conf/mounted/blobs/{digest}").status)
