"""The other end of the sockets: reads each connection to its end and answers how many bytes came.

Prints the port it listens on, and ends when its stdin does.
"""

from __future__ import annotations

import select
import socket
import sys

__all__ = ["main"]


def main() -> None:
    """Serve one connection after the other."""
    buffer = bytearray(256 * 1024)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(sys.stdin, select.POLLIN)
        while sys.stdin.fileno() not in dict(poll.poll()):
            connection, _ = listener.accept()
            with connection:
                total = 0
                while size := connection.recv_into(buffer):
                    total += size
                connection.sendall(str(total).encode())


if __name__ == "__main__":
    main()
