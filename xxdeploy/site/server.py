"""A server of one bundle and its page, for this machine: files of a fixed list, no others."""

from __future__ import annotations

import errno
import http.server
import os
import socket
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from xxdeploy.errors import UsageError
from xxdeploy.files import open_regular
from xxdeploy.runtime.bundle.files import open_bundle, outside, read_entry, read_signed
from xxdeploy.runtime.bundle.manifest import MANIFEST, Manifest
from xxdeploy.runtime.bundle.signature import SIGNATURES, KeyLike, trust
from xxdeploy.site.files import INDEX, WEB, engine_files, engine_for, page_files, policy

LOCAL = "127.0.0.1"
TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}
"""The types of files; others are ``application/octet-stream``. A browser compiles WebAssembly only by its type."""
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Site:
    """What is served: each path with its content or its file, and the policy of the page."""

    name: str
    parts: Mapping[str, bytes | Path]
    policy: str

    @classmethod
    def of(cls, bundle: Path, engines: Path | None = None, *, key: KeyLike | None = None) -> Site:
        """Return the site of a bundle: the files that its manifest lists, the page, and the engine that it needs.

        The page is always that of this xxdeploy, also for a bundle of ``--target web``; the engine is that of
        ``engines`` (a ``node_modules``), by default the bundle's own, else that of the current folder.

        The manifest is served as the bytes that ``key`` vouches for, and the bundle's own engine as the bytes that have
        the listed hash: the browser runs it. The page compares the other files with the manifest itself.

        ``BundleError`` as ``open_bundle`` and ``read_entry``; ``MissingDependencyError`` ``engine-files``;
        ``UsageError`` ``key-*``.
        """
        trusted = trust(key)
        root, _ = open_bundle(bundle, trusted)
        record, _ = read_signed(root, MANIFEST, trusted)
        manifest = Manifest.from_json(record)
        engine = engine_for(manifest)
        parts: dict[str, bytes | Path] = {entry.path: _inside(root, entry.path) for entry in manifest.files}
        own = [entry for entry in manifest.files if entry.path.startswith(f"{WEB}/engine/")]
        if own and engines is None:
            parts.update({entry.path: read_entry(root, entry) for entry in own})
        else:
            parts.update({name: file.resolve() for name, file in engine_files(engine, engines).items()})
        if (root / SIGNATURES[MANIFEST]).is_file():
            parts[SIGNATURES[MANIFEST]] = _inside(root, SIGNATURES[MANIFEST])
        return cls(manifest.name, {**parts, MANIFEST: record, **page_files(engine)}, policy(engine))


def _inside(root: Path, name: str) -> Path:
    """Return where a file of the folder ``root`` lies. ``BundleError`` ``file-outside``: a link leads out of it."""
    path = Path(os.path.realpath(root / name))
    if not path.is_relative_to(root):
        raise outside(name, path)
    return path


class _Server(http.server.ThreadingHTTPServer):
    """A server whose visitors may break off, or speak another protocol, without a trace on the terminal."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Let a broken connection go; any other fault is one of this program, and is shown."""
        if not isinstance(sys.exception(), OSError):  # ssl.SSLError and TimeoutError are OSErrors
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def serve(site: Site, host: str, port: int, certificate: Path | None = None) -> http.server.ThreadingHTTPServer:
    """Return a server that listens; ``serve_forever`` of it serves. Port 0 is any free one.

    With ``certificate`` (PEM with its private key) it speaks HTTPS. ``UsageError``: ``address-unusable`` (the port is
    taken, or the host is no address of this machine), ``certificate-invalid``.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"a port is 0 to 65535, not {port}", hint="leave it out, or --port 0", code="address-unusable")
    try:
        server = _Server((host, port), _handler(site, host))
    except (OSError, UnicodeError) as error:
        # A host that is no name is a UnicodeError or a gaierror; one of another machine is EADDRNOTAVAIL.
        is_host = isinstance(error, UnicodeError | socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        raise UsageError(
            f"cannot listen on {host[:80]} port {port}: {getattr(error, 'strerror', None) or error}",
            hint=f"leave --host out ({LOCAL}), or give an address of this machine"
            if is_host
            else "choose another port: --port 0 takes a free one",
            code="address-unusable",
        ) from error
    if certificate is not None:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            server.server_close()
            raise UsageError(
                f"{certificate} is not a certificate with its private key: {getattr(error, 'strerror', None) or error}",
                hint="give one PEM file that holds both",
                code="certificate-invalid",
            ) from error
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


def _handler(site: Site, host: str) -> type[_Handler]:
    """Return the class of handlers of one site."""
    return type("Handler", (_Handler,), {"site": site, "host": host})


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request: a file of the site, or a refusal without a body."""

    site: Site
    host: str
    server_version, sys_version = "xxdeploy", ""
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: the command prints the address once."""

    def _answer(self, *, body: bool) -> None:
        try:
            name = unquote(urlsplit(self.path).path).removeprefix("/") or INDEX
        except ValueError:  # such as http://[
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        part = self.site.parts.get(name)
        if not _is_expected(self.headers.get("Host", ""), self.host):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)  # a page of another name that resolves to this machine
        elif part is None:
            self._refuse(HTTPStatus.NOT_FOUND)
        elif isinstance(part, bytes):
            self._head(len(part), name)
            if body:
                self.wfile.write(part)
        else:
            self._send(part, body=body)

    def _send(self, path: Path, *, body: bool) -> None:
        try:
            if path.resolve() != path:  # it became a link after the server began
                raise FileNotFoundError(path)
            file = open_regular(path)
        except (OSError, RuntimeError):  # RuntimeError: a loop of links, before Python 3.13
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with file:
            left = os.fstat(file.fileno()).st_size
            self._head(left, path.name)
            while body and left and (block := file.read(min(left, _BLOCK))):
                left -= len(block)
                self.wfile.write(block)

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self._guards()
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _head(self, size: int, name: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES.get(PurePosixPath(name).suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(size))
        self._guards()
        self.end_headers()

    def _guards(self) -> None:
        """Isolate the page, which gives it threads, and keep every other host out."""
        for name, value in (
            ("Content-Security-Policy", f"{self.site.policy}; frame-ancestors 'none'"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Embedder-Policy", "require-corp"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-cache"),
        ):
            self.send_header(name, value)


def _is_expected(given: str, host: str) -> bool:
    """Tell whether a request names this machine: on the local address, by a local name only."""
    if host not in (LOCAL, "localhost", "::1"):
        return True
    name = given.rsplit(":", 1)[0] if not given.endswith("]") else given
    return name in (LOCAL, "localhost", "[::1]")
