"""The server gives the files of its list with the headers that isolate the page, and nothing else."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import node_modules
import pytest
import tiny_bundle

from xxdeploy.errors import BundleError, MissingDependencyError, UsageError
from xxdeploy.site.server import LOCAL, Site, serve

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    tiny_bundle.make(folder / "bundle")
    (folder / "bundle" / "secret.txt").write_text("not listed")
    node_modules.make(folder, "onnxruntime")
    return folder


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    server = serve(Site.of(folder / "bundle", folder / "node_modules"), LOCAL, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def ask(port: int, path: str, *, method: str = "GET", host: str = "localhost") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(LOCAL, port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    result = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return result


def test_the_page_the_bundle_and_the_engine_are_there_with_their_types(port: int, folder: Path) -> None:
    for path, kind, content in (
        ("/", "text/html; charset=utf-8", None),
        ("/web/page.js", "text/javascript; charset=utf-8", None),
        ("/manifest.json", "application/json", (folder / "bundle/manifest.json").read_bytes()),
        ("/model.onnx?a=b", "application/octet-stream", (folder / "bundle/model.onnx").read_bytes()),
        ("/web/engine/onnxruntime/ort-wasm-simd-threaded.wasm", "application/wasm", None),
        ("/web/engine/onnxruntime/ort-wasm-simd-threaded.mjs", "text/javascript; charset=utf-8", None),
    ):
        status, headers, body = ask(port, path)
        assert (status, headers["content-type"]) == (200, kind)
        assert int(headers["content-length"]) == len(body) > 0
        assert content is None or body == content
        assert ask(port, path, method="HEAD")[::2] == (200, b"")


def test_each_answer_isolates_the_page_and_names_no_other_host(port: int) -> None:
    for path in ("/", "/none"):
        headers = ask(port, path)[1]
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-embedder-policy"] == "require-corp"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self' 'wasm-unsafe-eval'")
        assert "http" not in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/secret.txt",
        "/../node_modules/onnxruntime-web/dist/ort.wasm.min.mjs",
        "/%2e%2e/bundle/secret.txt",
        "/web/..%2fsecret.txt",
        "//etc/passwd",
        "/etc/passwd",
        "/golden",
        "/model.onnx%00",
    ],
)
def test_other_paths_are_not_found(port: int, path: str) -> None:
    assert ask(port, path)[0] == 404


def test_other_methods_and_names_are_refused(port: int) -> None:
    assert ask(port, "/", method="POST")[0] == 501
    for host in ("evil.example", f"evil.example:{port}", "", "localhost.evil.example"):
        assert ask(port, "/", host=host)[0] == 421
    for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert ask(port, "/", host=host)[0] == 200


def test_what_cannot_be_served_is_told_before_the_server_starts(folder: Path, tmp_path: Path, port: int) -> None:
    with pytest.raises(BundleError):
        Site.of(tmp_path)
    with pytest.raises(MissingDependencyError, match="onnxruntime-web"):
        Site.of(folder / "bundle", tmp_path)
    site = Site.of(folder / "bundle", folder / "node_modules")
    places = (LOCAL, port, "port"), (LOCAL, 70000, "port"), ("203.0.113.7", 0, "--host"), ("a b", 0, "--host")
    for host, number, hint in (*places, ("a" * 64, 0, "--host")):
        with pytest.raises(UsageError) as raised:
            serve(site, host, number)
        assert raised.value.code == "address-unusable"
        assert hint in raised.value.hint
    for file in (tmp_path / "none.pem", folder / "bundle/labels.txt"):
        with pytest.raises(UsageError) as raised:
            serve(site, LOCAL, 0, file)
        assert raised.value.code == "certificate-invalid"


def test_the_manifest_that_was_checked_is_the_one_that_is_served(folder: Path, tmp_path: Path) -> None:
    bundle = tiny_bundle.make(tmp_path / "bundle")
    checked = (bundle / "manifest.json").read_bytes()
    site = Site.of(bundle, folder / "node_modules")
    other = (tiny_bundle.make(tmp_path / "other", seed=1) / "manifest.json").read_bytes()
    assert other != checked
    (bundle / "manifest.json").write_bytes(other)
    assert site.parts["manifest.json"] == checked


def test_a_certificate_makes_it_https(folder: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate")
    pem = tmp_path / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", tmp_path / "key", "-out", pem],
        check=True, capture_output=True,
    )  # fmt: skip
    certificate = pem.read_text()
    pem.write_text(certificate + (tmp_path / "key").read_text())
    server = serve(Site.of(folder / "bundle", folder / "node_modules"), LOCAL, 0, pem)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    context = ssl.create_default_context(cadata=certificate)
    connection = http.client.HTTPSConnection("localhost", server.server_address[1], context=context, timeout=10)
    connection.request("GET", "/manifest.json")
    assert connection.getresponse().status == 200
    connection.close()
    server.shutdown()
    server.server_close()


def test_no_link_leads_out_of_the_bundle(folder: Path, tmp_path: Path) -> None:
    """A hostile bundle could otherwise show any file of this machine to the browsers that it serves."""
    secret = tmp_path / "secret.txt"
    secret.write_text("of another folder")
    bundle = tmp_path / "bundle"
    shutil.copytree(folder / "bundle", bundle)
    server = serve(Site.of(bundle, folder / "node_modules"), LOCAL, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("labels.txt", "model.onnx"):
        (bundle / name).unlink()
    (bundle / "labels.txt").symlink_to(secret)
    os.mkfifo(bundle / "model.onnx")
    assert [ask(server.server_address[1], path)[::2] for path in ("/labels.txt", "/model.onnx")] == [(404, b"")] * 2
    server.shutdown()
    server.server_close()
    with pytest.raises(BundleError, match=r"labels\.txt is a link to .*secret\.txt") as caught:
        Site.of(bundle, folder / "node_modules")
    assert caught.value.code == "file-outside"


def test_requests_that_break_off_or_make_no_sense_leave_no_traceback(port: int, capfd: Capture) -> None:
    assert ask(port, "http://[")[0] == 400
    for sent in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        with socket.create_connection((LOCAL, port), timeout=10) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # resets at its end
            connection.sendall(sent)
    assert ask(port, "/manifest.json")[0] == 200
    assert "Traceback" not in capfd.readouterr().err
