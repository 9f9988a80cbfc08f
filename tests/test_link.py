"""A link passes everything on, or breaks on command; a tunnel opens to those that it knows."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from psbarrier.errors import ClosedError
from psbarrier.link import Link
from psbarrier.link_proxy import LinkProxy

PATIENCE = 20.0
BIG = b"0123456789abcdef" * 250_000  # more than any buffer on the way holds


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says back what it hears."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer(client: socket.socket) -> None:
        with client:
            while data := client.recv(65536):
                client.sendall(data)

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(client,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(PATIENCE)


@pytest.fixture
def proxy() -> Iterator[LinkProxy]:
    """A proxy without ports."""
    made = LinkProxy()
    yield made
    made.close()


def dial(port: int) -> socket.socket:
    """A connection that does not wait for ever."""
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def hear(sock: socket.socket, count: int) -> bytes:
    """So many bytes, or those that came before the end."""
    heard = b""
    while len(heard) < count and (data := sock.recv(count - len(heard))):
        heard += data
    return heard


def ended(sock: socket.socket) -> bool:
    """Whether the other side ends the connection without another word."""
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


def test_what_is_sent_arrives_whole_and_in_order(proxy: LinkProxy, echo: int) -> None:
    """However much it is, with a delay too."""
    link = Link()
    with dial(proxy.forward(link, lambda: echo)) as sock:
        for delay in (0.0, 0.05):
            proxy.do(link.slow(delay))
            sender = threading.Thread(target=sock.sendall, args=(BIG,))
            sender.start()
            assert hear(sock, len(BIG)) == BIG
            sender.join(PATIENCE)


def test_a_silent_link_hands_over_later_what_it_held_back(proxy: LinkProxy, echo: int) -> None:
    """For connections of before, and for those that were opened meanwhile."""
    link = Link()
    port = proxy.forward(link, lambda: echo)
    with dial(port) as old:
        proxy.do(link.mute())
        old.sendall(b"old")
        with dial(port) as new:
            new.sendall(b"new")
            proxy.do(link.join())
            assert (hear(old, 3), hear(new, 3)) == (b"old", b"new")


def test_a_cut_link_ends_old_connections_and_new_ones_until_it_is_joined(proxy: LinkProxy, echo: int) -> None:
    """A silent one, too."""
    link = Link()
    port = proxy.forward(link, lambda: echo)
    for before in (link.join, link.mute):
        with dial(port) as old:
            proxy.do(before())
            proxy.do(link.cut())
            assert ended(old)
        with dial(port) as new:
            assert ended(new)
        proxy.do(link.join())
    with dial(port) as again:
        again.sendall(b"x")
        assert hear(again, 1) == b"x"


def test_a_tunnel_opens_to_the_hosts_it_knows(proxy: LinkProxy, echo: int) -> None:
    """Whoever asks for another, or for anything but a tunnel, is cut off."""
    port = proxy.tunnel({"192.0.2.1:1": (Link(), lambda: echo)})
    with dial(port) as sock:
        sock.sendall(b"CONNECT 192.0.2.1:1 HTTP/1.1\r\nHost: 192.0.2.1:1\r\n\r\nhello")
        answer = b"HTTP/1.1 200 OK\r\n\r\nhello"
        assert hear(sock, len(answer)) == answer
    for request in (b"CONNECT 192.0.2.2:1 HTTP/1.1\r\n\r\n", b"GET 192.0.2.1:1 HTTP/1.1\r\n\r\n"):
        with dial(port) as sock:
            sock.sendall(request)
            assert ended(sock)


def test_a_target_that_does_not_listen_ends_the_connection(proxy: LinkProxy) -> None:
    """As its own port would."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with dial(proxy.forward(Link(), lambda: int(unused.getsockname()[1]))) as sock:
            assert ended(sock)


def test_closing_ends_all_and_is_final(proxy: LinkProxy, echo: int) -> None:
    """Connections, ports, and the thread."""
    port = proxy.forward(Link(), lambda: echo)
    with dial(port) as sock:
        proxy.close()
        proxy.close()
        assert ended(sock)
    with pytest.raises(ConnectionRefusedError):
        dial(port)
    with pytest.raises(ClosedError):
        proxy.do(Link().cut())
