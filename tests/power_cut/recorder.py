"""A file whose writes and flushes are recorded: the disk whose power is cut.

dm-log-writes needs the device mapper, which not every kernel has; this needs FUSE and a loop device. The
process is a FUSE file system that consists of one file, its root. A loop device is attached to that file,
with an ext4 on it, and what ext4 sends to its disk arrives here: WRITE with offset and bytes, and FSYNC for
each flush of the disk's cache. (A loop device has no FUA: for such a write the kernel sends a flush behind
it.) Both are appended to a log, in order.

A handful of requests on /dev/fuse (linux/fuse.h) are all that a single file needs, so libfuse is not. A
change is in the log before the kernel receives the response. So the size of the log after an
acknowledgement is at or behind everything on which that acknowledgement can depend.

    python -m tests.power_cut.recorder MOUNTPOINT IMAGE LOG

MOUNTPOINT is an empty file, which becomes the disk; IMAGE is its content; records are appended to LOG.
"""

import ctypes
import errno
import os
import stat
import struct
import sys
from enum import IntEnum

import attrs

RECORD = struct.Struct("<QI4x")
"""The head of a record: an offset on the disk, and the length of the bytes that follow; none is a flush."""

_MAX_WRITE = 1 << 20
_BIG_WRITES, _MAX_PAGES, _DIRECT_IO = 1 << 5, 1 << 22, 1

_REQUEST_HEAD = struct.Struct("<IIQQIIIHH")
_RESPONSE_HEAD = struct.Struct("<IiQ")
_INIT_RESPONSE = struct.Struct("<IIIIHHIIHH32x")
_ATTRIBUTES_RESPONSE = struct.Struct("<QIIQQQQQQIIIIIIIIII")
_OPEN_RESPONSE = struct.Struct("<QII")
_TRANSFER = struct.Struct("<QQIIQII")
_WRITE_RESPONSE = struct.Struct("<II")


class _Opcode(IntEnum):
    FORGET = 2
    GETATTR = 3
    OPEN = 14
    READ = 15
    WRITE = 16
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    INTERRUPT = 36
    BATCH_FORGET = 42


_UNANSWERED = {_Opcode.FORGET, _Opcode.INTERRUPT, _Opcode.BATCH_FORGET}


@attrs.frozen
class RecordingFile:
    """The disk: its content in the file descriptor `image`, and a record of each change in `log`."""

    _image: int
    _log: int

    def respond(self, opcode: int, body: memoryview) -> bytes:  # noqa: PLR0911 - a table of requests
        """Return the response to a request.

        Raises:
            OSError: The request is not supported, or failed.
        """
        match opcode:
            case _Opcode.INIT:
                return _INIT_RESPONSE.pack(
                    7, 31, _MAX_WRITE, _BIG_WRITES | _MAX_PAGES, 16, 12, _MAX_WRITE, 1, _MAX_WRITE // 4096, 0
                )
            case _Opcode.GETATTR:
                size, mode = os.fstat(self._image).st_size, stat.S_IFREG | 0o600
                return _ATTRIBUTES_RESPONSE.pack(
                    3600, 0, 0, 1, size, size // 512, *[0] * 6, mode, 1, *[0] * 3, 4096, 0
                )
            case _Opcode.OPEN:
                return _OPEN_RESPONSE.pack(0, _DIRECT_IO, 0)
            case _Opcode.READ:
                _, offset, size, *_ = _TRANSFER.unpack_from(body)
                return os.pread(self._image, size, offset)
            case _Opcode.WRITE:
                _, offset, size, *_ = _TRANSFER.unpack_from(body)
                self._write(offset, body[_TRANSFER.size :][:size])
                return _WRITE_RESPONSE.pack(size, 0)
            case _Opcode.FSYNC:
                os.write(self._log, RECORD.pack(0, 0))
                return b""
            case _Opcode.RELEASE | _Opcode.FLUSH:
                return b""
        raise OSError(errno.ENOSYS, "not supported")

    def _write(self, offset: int, content: memoryview) -> None:
        os.pwrite(self._image, content, offset)
        os.writev(self._log, [RECORD.pack(offset, len(content)), content])


def serve(device: int, file: RecordingFile) -> None:
    """Answer the kernel's requests, one after another, until the file system is unmounted."""
    buffer = bytearray(_MAX_WRITE + 4096)
    while True:
        try:
            count = os.readv(device, [buffer])
        except OSError as error:
            if error.errno == errno.ENODEV:
                return
            raise
        _, opcode, unique, *_ = _REQUEST_HEAD.unpack_from(buffer)
        if opcode in _UNANSWERED:
            continue
        try:
            status, response = 0, file.respond(opcode, memoryview(buffer)[_REQUEST_HEAD.size : count])
        except OSError as error:
            status, response = -(error.errno or errno.EIO), b""
        os.writev(
            device, [_RESPONSE_HEAD.pack(_RESPONSE_HEAD.size + len(response), status, unique), response]
        )


def mount(mountpoint: str) -> int:
    """Mount a FUSE file system whose root is a file; return the descriptor for its requests."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode={stat.S_IFREG:o},user_id=0,group_id=0"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"recorder", mountpoint.encode(), b"fuse", 0, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), mountpoint)
    return device


def main() -> None:
    """Mount the file, report that by a line, and serve it."""
    mountpoint, image, log = sys.argv[1:]
    file = RecordingFile(
        os.open(image, os.O_RDWR), os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    )
    device = mount(mountpoint)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    serve(device, file)


if __name__ == "__main__":
    main()
