"""The address that the exporter listens on: bound, or refused in one line that names the setting."""

import os
import socket

from busmon.errors import ListenError

# Or what the system allows; beyond that, a client tries again after a second.
_BACKLOG = 4096


def open_listener(listen: str) -> socket.socket:
    """Open a listening socket.

    Args:
        listen: `host:port`; 0 is a port that is free.

    Raises:
        ListenError: the address can't be had.
    """
    host, _, port = listen.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        # Accepted sockets inherit it. asyncio sets it only where a socket names its protocol, as these don't. Without
        # it, the second part of an answer waits for the client to acknowledge the first, which takes up to 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise ListenError(f"can't listen on {listen}: {reason}; choose another with --listen HOST:PORT") from error
    return listener
