"""Certificates are chosen by name, renewed as a pair or not at all, and never lost to a bad file."""

from datetime import UTC, datetime, timedelta

from cryptography.x509 import Certificate

from mirrord.config.config import CertificateConfig
from tests.unit.http.certificates_case import NOW, CertificateCase

LATER = datetime(2031, 1, 1, tzinfo=UTC)


class NameTests(CertificateCase):
    def setUp(self) -> None:
        super().setUp()
        self.certificates = self.load(
            self.certified.issue("first.lan", file="first"),
            self.certified.issue("*.wild.lan", file="wild"),
            self.certified.issue("second.lan", "a.wild.lan", file="second"),
            self.certified.issue("second.lan", file="again"),
        )

    def test_by_name(self) -> None:
        """A client is presented the certificate for the server name it sends, whatever its case."""
        for name, names in (
            ("first.lan", ["first.lan"]),
            ("second.lan", ["second.lan", "a.wild.lan"]),
            ("SECOND.lan", ["second.lan", "a.wild.lan"]),
            ("b.wild.lan", ["*.wild.lan"]),
        ):
            with self.subTest(name=name):
                self.assertEqual(names, self.handshake(self.certificates, name).names)

    def test_exact_before_wildcard(self) -> None:
        """A certificate for exactly that name is preferred to one with a wildcard."""
        self.assertEqual(["second.lan", "a.wild.lan"], self.handshake(self.certificates, "a.wild.lan").names)

    def test_one_label(self) -> None:
        """A wildcard matches one label, neither two nor none (RFC 6125, section 6.4.3)."""
        for name in ("a.b.wild.lan", "wild.lan"):
            with self.subTest(name=name):
                self.assertEqual(["first.lan"], self.handshake(self.certificates, name).names)

    def test_unknown(self) -> None:
        """The first certificate is for clients that send no server name, or an unknown one."""
        for name in (None, "unknown.lan", "lan"):
            with self.subTest(name=name):
                self.assertEqual(["first.lan"], self.handshake(self.certificates, name).names)

    def test_renewed(self) -> None:
        """After any certificate is renewed, all names are found as before."""
        for file, name in (("first", "first.lan"), ("wild", "*.wild.lan")):
            before = self.handshake(self.certificates, name).certificate
            self.certified.issue(name, file=file)
            self.certificates.reload()

            self.assertNotEqual(before, self.handshake(self.certificates, name).certificate)
            self.assertEqual(
                ["second.lan", "a.wild.lan"], self.handshake(self.certificates, "second.lan").names
            )


class RenewalTests(CertificateCase):
    def setUp(self) -> None:
        super().setUp()
        self.pair = self.certified.issue("mirror.lan", until=LATER)
        self.certificates = self.load(self.pair)
        self.certificates.start()
        self.addCleanup(self.certificates.stop)
        self.first = self.shown()

    def shown(self) -> Certificate:
        shown: Certificate = self.handshake(self.certificates).certificate
        return shown

    def wait(self) -> None:
        self.clock.advance(2)

    def test_in_time(self) -> None:
        """New files are in use two seconds later, without a reload."""
        self.certified.issue("mirror.lan")
        self.assertEqual(self.first, self.shown())
        self.wait()

        self.assertNotEqual(self.first, self.shown())
        self.assertIsNone(self.certificates.problem)
        self.assertEqual([], self.warnings)

    def test_links(self) -> None:
        """Links are followed: certbot leaves the files alone and links to others."""
        other = self.certified.issue("mirror.lan", file="other")
        for ours, theirs in ((self.pair.certificate, other.certificate), (self.pair.key, other.key)):
            ours.unlink()
            ours.symlink_to(theirs)
        self.wait()

        self.assertNotEqual(self.first, self.shown())

    def test_half_written(self) -> None:
        """A certificate whose key is still the old one waits for it; the old pair stays in use meanwhile."""
        key = self.pair.key.read_bytes()
        self.certified.issue("mirror.lan")
        new_key = self.pair.key.read_bytes()
        self.pair.key.write_bytes(key)
        self.wait()
        self.assertEqual(self.first, self.shown())
        self.assertIn(f"{self.pair.key}: not the key of the certificate", str(self.certificates.problem))

        self.pair.key.write_bytes(new_key)
        self.wait()

        self.assertNotEqual(self.first, self.shown())
        self.assertIsNone(self.certificates.problem)

    def test_broken(self) -> None:
        """Whatever happens to the files, the old pair stays in use, and the problem is logged once."""

        def expire() -> None:
            self.certified.issue("mirror.lan", until=NOW)

        for break_it, problem in (
            (lambda: self.pair.certificate.write_bytes(b"nothing"), "no certificate in PEM"),
            (lambda: self.pair.key.write_bytes(b""), "no private key in PEM"),
            (self.pair.certificate.unlink, "cannot be read: No such file"),
            (expire, "expired"),
        ):
            with self.subTest(problem=problem):
                self.warnings.clear()
                self.certified.issue("mirror.lan", until=LATER)
                self.wait()
                served = self.shown()
                break_it()
                for _ in range(5):
                    self.wait()
                self.assertEqual(served, self.shown())
                self.assertIn(problem, str(self.certificates.problem))
                self.assertEqual([self.certificates.problem], self.warnings)

    def test_too_early(self) -> None:
        """A certificate that is not valid yet waits until it is; the previous one stays in use meanwhile."""
        self.certified.issue("mirror.lan", since=NOW + timedelta(seconds=3), until=LATER)
        self.wait()
        self.assertEqual(self.first, self.shown())
        self.assertIn("not valid yet", str(self.certificates.problem))

        self.now += 3
        self.wait()
        self.assertNotEqual(self.first, self.shown())
        self.assertIsNone(self.certificates.problem)

    def test_repaired_elsewhere(self) -> None:
        """A rejected pair is tried again though its files are the same: a mode or the clock may change."""
        self.certified.issue("mirror.lan", until=LATER)
        self.now = LATER.timestamp()
        self.wait()
        self.assertEqual(self.first, self.shown())
        self.assertIn("expired", str(self.certificates.problem))

        self.now = NOW.timestamp()
        self.wait()

        self.assertNotEqual(self.first, self.shown())
        self.assertIsNone(self.certificates.problem)

    def test_only_the_broken_one(self) -> None:
        """A broken pair does not keep another from being renewed."""
        other = self.certified.issue("other.lan", file="other")
        certificates = self.load(self.pair, other)
        before = self.handshake(certificates, "other.lan").certificate
        self.pair.key.write_bytes(b"")
        self.certified.issue("other.lan", file="other")
        certificates.check()

        self.assertNotEqual(before, self.handshake(certificates, "other.lan").certificate)
        self.assertEqual(self.first, self.handshake(certificates, "mirror.lan").certificate)
        self.assertIn(str(self.pair.key), str(certificates.problem))

    def test_reload(self) -> None:
        """A reload checks the files at once."""
        self.certified.issue("mirror.lan")
        self.certificates.reload()

        self.assertNotEqual(self.first, self.shown())

    def test_expiry(self) -> None:
        """The expiry of each certificate is reported by its first name; an expired one is a problem."""
        other = self.certified.issue("mirror.lan", "other.lan", file="other", until=NOW)
        certificates = self.load(
            self.pair, other, self.certified.issue("third.lan", file="third", until=LATER)
        )

        self.assertEqual(
            {"mirror.lan": NOW.timestamp(), "third.lan": LATER.timestamp()}, certificates.expiries
        )
        self.assertEqual(f"{other.certificate}: expired; renew it", certificates.problem)
        self.assertIsNone(self.certificates.problem)


class LoadTests(CertificateCase):
    def test_unusable(self) -> None:
        """At the start an unusable file is an OSError of one line that names it."""
        pair = self.certified.issue("mirror.lan")
        other = self.certified.issue("mirror.lan", file="other")
        nothing = self.certified.folder / "nothing"
        junk = self.certified.folder / "junk"
        junk.write_bytes(b"junk")
        for files, client_ca, message in (
            (
                CertificateConfig(nothing, pair.key),
                None,
                f"{nothing}: cannot be read: No such file or directory",
            ),
            (CertificateConfig(pair.certificate, nothing), None, f"{nothing}: cannot be read"),
            (CertificateConfig(junk, pair.key), None, f"{junk}: no certificate in PEM"),
            (CertificateConfig(pair.certificate, junk), None, f"{junk}: no private key in PEM"),
            (CertificateConfig(pair.certificate, other.key), None, f"{other.key}: not the key of"),
            (pair, junk, f"{junk}: "),
        ):
            with self.subTest(message=message), self.assertRaises(OSError) as caught:
                self.load(files, client_ca=client_ca)
            self.assertTrue(str(caught.exception).startswith(message), caught.exception)
            self.assertNotIn("\n", str(caught.exception))

    def test_expired(self) -> None:
        """An expired certificate is used if there is no better one."""
        pair = self.certified.issue("mirror.lan", until=NOW)

        self.assertEqual(["mirror.lan"], self.handshake(self.load(pair)).names)
