"""Files of users, as written by `htpasswd -B`."""

from pathlib import Path
from tempfile import NamedTemporaryFile

from twisted.trial.unittest import SynchronousTestCase

from mirrord.config.htpasswd import read_users

HASH = "$2y$05$" + "a" * 53


class FileTests(SynchronousTestCase):
    def read(self, content: str | bytes) -> dict[str, bytes]:
        with NamedTemporaryFile() as file:
            file.write(content if isinstance(content, bytes) else content.encode())
            file.flush()
            return read_users(Path(file.name))

    def test_users(self) -> None:
        """Each line is a user, except empty lines and comments; any line end is accepted."""
        for variant in "aby":
            hashed = HASH.replace("2y", f"2{variant}")
            users = self.read(f"# the team\n\nann:{hashed}\r\n  müller:{hashed}  \n")
            self.assertEqual(users, dict.fromkeys(["ann", "müller"], hashed.encode()))
        self.assertEqual(self.read(""), {})

    def test_errors(self) -> None:
        """An error names the line or the user and a remedy, and contains no hash."""
        for content, message in (
            ("ann", "line 1 is not USER:HASH"),
            (f"\n:{HASH}", "line 2 is not USER:HASH"),
            ("ann:$apr1$x$y", "the password of ann is not hashed by bcrypt; set it with htpasswd -B"),
            ("ann:{SHA}x", "the password of ann is not hashed by bcrypt"),
            ("ann:rqXexS6ZhobKA", "the password of ann is not hashed by bcrypt"),
            (f"ann:{HASH}x", "the password of ann is not hashed by bcrypt"),
            (f"ann:{HASH.replace('2y', '2x')}", "the password of ann is not hashed by bcrypt"),
            (f"ann:{HASH.replace('05', '31')}", "the hash of ann takes too long to check"),
            (f"ann:{HASH}\nbob:{HASH}\nann:{HASH}", "ann is listed twice"),
            (b"\xff:x", "not UTF-8"),
            (b"#" * (4 << 20) + b"\n", "too large for a file of users"),
        ):
            with self.assertRaises(ValueError, msg=content[:40]) as caught:
                self.read(content)
            self.assertTrue(str(caught.exception).startswith(message), caught.exception)
            self.assertNotIn("aaaa", str(caught.exception))
