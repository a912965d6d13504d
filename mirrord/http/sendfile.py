"""SendfileServer: a client's plain TCP connection, to which files go without touching their bytes."""

import os

from mirrord.http.file_server import FileServer


class SendfileServer(FileServer):
    """A client's connection over plain TCP: the kernel moves files from the page cache to the socket."""

    chunk_bytes = 512 * 1024

    def send_chunk(self, fd: int, offset: int, count: int) -> int:
        """Send some bytes of a file (FileServer)."""
        try:
            sent = os.sendfile(self.fileno(), fd, offset, count)
        except BlockingIOError:
            return 0
        if not sent:
            raise EOFError(f"the file ends at {offset}")
        self.handed_over += sent
        return sent
