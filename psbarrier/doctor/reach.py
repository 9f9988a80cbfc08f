"""Reach: whether there is an etcd's ear at an endpoint, step by step, with nothing but sockets.

gRPC says little about a connection that does not come about, and the same words for different causes. Here each step is
made by itself: the name, the connection, TLS, and the first words of HTTP/2, to which every gRPC server answers at once.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import time

from psbarrier.doctor.connector import PATIENCE
from psbarrier.doctor.errand import within
from psbarrier.doctor.finding import Finding, Place, Verdict
from psbarrier.store.endpoints import host_and_port
from psbarrier.store.tls import TLS

# The client's first words in HTTP/2 (RFC 9113, 3.4), and an empty SETTINGS frame; the other side answers with one.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4
_ALERT = 0x15
_CHECK_PORT = "check the port: it must be etcd's for clients, which is 2379 by default"
_DAY = 86400.0
_SOON = 14 * _DAY
"""Seconds before a certificate's end from which on that is worth a word."""


def look(endpoint: str, tls: TLS | None) -> tuple[Finding, ...]:
    """What can be said of the endpoint without speaking etcd; ends with the first problem. Takes 4 x PATIENCE at most."""
    place = Place(endpoint)
    host, port = host_and_port(endpoint)
    found: list[Finding] = []
    for step in (_name, _connection, functools.partial(_speech, tls=tls)):
        found.append(step(place, host, port))
        if found[-1].verdict is Verdict.PROBLEM:
            break
    return tuple(found)


def _name(place: Place, host: str, port: int) -> Finding:
    try:
        known = within(PATIENCE, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except TimeoutError:
        advice = "check this machine's DNS (/etc/resolv.conf)"
        return place.problem(
            "name", f"no answer to the question for {host!r} in {PATIENCE:.0f} s", advice, "unavailable"
        )
    except (OSError, UnicodeError) as error:
        told = getattr(error, "strerror", None) or str(error)
        advice = "check the spelling, and this machine's DNS"
        return place.problem("name", f"the name {host!r} is not known here ({told})", advice, "unavailable")
    addresses = ", ".join(dict.fromkeys(str(entry[4][0]) for entry in known))
    return place.ok("name", addresses if addresses == host else f"{host} is {addresses}")


def _connection(place: Place, host: str, port: int) -> Finding:
    started = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout=PATIENCE):
            return place.ok("connection", f"accepted in {(time.monotonic() - started) * 1000:.1f} ms")
    except TimeoutError:
        advice = "a firewall or network policy may drop it, or the machine is down"
        return place.problem("connection", f"no answer in {PATIENCE:.0f} s", advice, "unavailable")
    except ConnectionRefusedError:
        advice = "check that etcd runs there, and listens on that address (--listen-client-urls)"
        return place.problem("connection", "refused: nobody listens on that port", advice, "unavailable")
    except OSError as error:
        advice = "check the network between here and there"
        return place.problem("connection", (error.strerror or str(error)).lower(), advice, "unavailable")


def _speech(place: Place, host: str, port: int, tls: TLS | None) -> Finding:
    """TLS, if there is to be any, and what the other side speaks in it."""
    if tls is None:
        return _plain(place, host, port)
    try:
        context = context_of(tls, "h2")
    except (OSError, ssl.SSLError) as error:
        told = error.strerror or str(error)
        return place.problem(
            "TLS", f"the files of --ca, --cert or --key cannot be used: {told}", "correct them", "usage"
        )
    return _secure(place, host, port, context)


def _plain(place: Place, host: str, port: int) -> Finding:
    try:
        words = _greet(host, port)
    except TimeoutError:
        return _mute(place, "protocol")
    except OSError:
        words = b""
    if _is_http2(words):
        return place.ok("protocol", "HTTP/2 in plain text, which can be read on the way")
    if words[:1] == bytes([_ALERT]) or (not words and _speaks_tls(host, port)):
        advice = "give --ca FILE (and --cert and --key, if it wants to know who we are)"
        return place.problem("protocol", "the server speaks TLS, and we do not", advice, "unavailable")
    return place.problem("protocol", _stranger(words), _CHECK_PORT, "unavailable")


def _mute(place: Place, check: str) -> Finding:
    advice = "if etcd runs there, it hangs, or is overloaded: look at its log and its disk; else check the port"
    return place.problem(
        check, f"the connection is accepted, and then nothing is said for {PATIENCE:.0f} s", advice, "unavailable"
    )


def _secure(place: Place, host: str, port: int, context: ssl.SSLContext) -> Finding:
    try:
        with (
            socket.create_connection((host, port), timeout=PATIENCE) as connection,
            context.wrap_socket(connection, server_hostname=host) as secured,
        ):
            certificate = secured.getpeercert() or {}
            words = _exchange(secured)
    except ssl.SSLCertVerificationError as error:
        return place.problem("TLS", *_disbelief(host, error), "unavailable")
    except TimeoutError:
        return _mute(place, "TLS")
    except (ssl.SSLError, OSError) as error:
        return _no_handshake(place, host, port, error)
    if not _is_http2(words):
        return place.problem("TLS", _stranger(words), _CHECK_PORT, "unavailable")
    return _lasting(place, certificate)


def _disbelief(host: str, error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    """What is wrong with the server's certificate, and what to do."""
    told = error.verify_message.rstrip(".")
    if "expired" in told:
        return "the server's certificate has expired", "renew it, or correct this machine's clock"
    if "not yet valid" in told:
        return "the server's certificate is not valid yet", "correct this machine's clock, or the server's"
    if "mismatch" in told or "not valid for" in told:
        return f"the server's certificate is not for {host!r}", "use a name that stands in it, or add this one to it"
    advice = "give with --ca the authority that signed the server's certificate"
    return f"the server's certificate is not believed ({told})", advice


def _no_handshake(place: Place, host: str, port: int, error: OSError) -> Finding:
    reason = (getattr(error, "reason", None) or error.strerror or str(error)).lower().replace("_", " ")
    if "alert" in reason or "certificate required" in reason:
        advice = "give --cert and --key that its --trusted-ca-file believes, and check that they have not expired"
        return place.problem("TLS", f"the server refuses us ({reason})", advice, "unavailable")
    words = b""
    with contextlib.suppress(OSError):
        words = _greet(host, port)
    if _is_http2(words):
        advice = "leave out --ca, --cert, --key and https://, or turn TLS on at the server"
        return place.problem("TLS", "the server speaks plain text, and we speak TLS", advice, "unavailable")
    return place.problem("TLS", f"the handshake failed ({reason})", _CHECK_PORT, "unavailable")


def _lasting(place: Place, certificate: object) -> Finding:
    end = certificate.get("notAfter") if isinstance(certificate, dict) else None
    left = ssl.cert_time_to_seconds(end) - time.time() if isinstance(end, str) else None
    if left is None:
        return place.ok("TLS", "the server's certificate is believed")
    days = f"{left / _DAY:.0f} days" if left >= 2 * _DAY else f"{left / 3600:.1f} h"
    if left < _SOON:
        return place.warning("TLS", f"the server's certificate is believed, for {days} more", "renew it in time")
    return place.ok("TLS", f"the server's certificate is believed, for {days} more")


def _stranger(words: bytes) -> str:
    if words.startswith((b"HTTP/1", b"<")):
        return "a web server answers, and no etcd"
    return "something answers that is no etcd" if words else "the connection is closed at once"


def _is_http2(words: bytes) -> bool:
    return len(words) > 3 and words[3] == _SETTINGS and not words.startswith(b"HTTP")


def _greet(host: str, port: int) -> bytes:
    """What is answered in plain text to the first words of HTTP/2; raises OSError, TimeoutError for no answer."""
    with socket.create_connection((host, port), timeout=PATIENCE) as connection:
        return _exchange(connection)


def _exchange(connection: socket.socket) -> bytes:
    connection.settimeout(PATIENCE)
    connection.sendall(_PREFACE)
    return connection.recv(64)


def _speaks_tls(host: str, port: int) -> bool:
    """Whether a handshake gets anywhere, whoever the other side is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, port), timeout=PATIENCE) as connection,
        context.wrap_socket(connection, server_hostname=host),
    ):
        return True
    return False


def context_of(tls: TLS, protocol: str) -> ssl.SSLContext:
    """What Python's own TLS needs to do as gRPC does. Raises OSError (ssl.SSLError too) for files that are no use."""
    context = ssl.create_default_context(cafile=tls.ca)
    if tls.cert is not None and tls.key is not None:
        context.load_cert_chain(tls.cert, tls.key)
    context.set_alpn_protocols([protocol])
    return context
