"""``xxdeploy serve``: a page on this machine that runs a bundle in the browser."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.cli.output import AsJson, BundlePath, PublicKey, print_json, print_line
from xxdeploy.optional import extra

EXAMPLE = """Example:

  npm install @litertjs/core
  xxdeploy serve exports/mobilenetv2-int8"""


def command(
    bundle: BundlePath,
    /,
    *,
    port: int = 8000,
    host: str = "127.0.0.1",
    engine_files: Path | None = None,
    certificate: Path | None = None,
    key: PublicKey = None,
    as_json: AsJson = False,
) -> None:
    """Serve a page that runs a bundle in the browser: drop a picture, or take one with the camera.

    Pictures do not leave the browser. Ctrl-C ends the server.

    Parameters
    ----------
    port
        Port to listen on; 0 takes a free one.
    host
        Address to listen on. By default only this machine can open the page. On other machines, browsers need
        HTTPS for the camera and for WebCrypto, which hashes the files: see --certificate.
    engine_files
        The node_modules folder that holds @litertjs/core, or onnxruntime-web for a bundle without a LiteRT file. By
        default the files in the bundle (--target web), else node_modules in the current folder.
    certificate
        PEM file of a certificate and its private key: serve by HTTPS.
    """
    with extra("edge"):
        from xxdeploy.site.server import Site, serve
    server = serve(Site.of(bundle, engine_files, key=key), host, port, certificate)
    scheme = "http" if certificate is None else "https"
    shown = "localhost" if host == "127.0.0.1" else f"[{host}]" if ":" in host else host
    address = f"{scheme}://{shown}:{server.server_address[1]}/"
    if as_json:
        print_json({"address": address})
    else:
        print_line(f"open {address}  (Ctrl-C ends the server)")
    try:
        server.serve_forever()
    finally:
        server.server_close()
