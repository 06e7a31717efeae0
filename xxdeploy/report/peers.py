"""Other engines and tools, measured by ``benchmarks/peers.py``, as a section of a bundle's page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xxdeploy.errors import UsageError
from xxdeploy.report.draw import render, strips

MARK = "<!-- peers -->"
"""The place for the section in a page."""
_LARGEST = 10_000_000


@dataclass(frozen=True, slots=True)
class Peer:
    """One subject on one network: milliseconds from a decoded picture to its classes, on one thread and on all.

    ``times`` are single runs on one thread, interleaved with those of the other subjects, and empty in older files;
    ``agreement`` (0..1) is with Keras. A figure is None where it was not measured; ``problem`` says why.
    """

    subject: str
    one_thread_ms: float | None
    all_threads_ms: float | None
    cold_start_ms: float | None
    memory_mb: float | None
    file_mb: float | None
    agreement: float | None
    problem: str | None
    times: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Peers:
    """The subjects of one network, and a description of the machine."""

    machine: str
    peers: tuple[Peer, ...]


def peers_from_json(text: bytes, network: str) -> Peers:
    """Read the rows of ``network``. ``UsageError`` ``bad-peers``: not a ``peers.json``, or without such a row."""
    try:
        if len(text) > _LARGEST:
            raise ValueError("it is larger than 10 MB")
        document: Any = json.loads(text)
        device, rows = document["device"], document["rows"]
        machine = f"{device['processor']}, {device['cores']} cores ({', '.join(device['features'])})"
        peers = tuple(_peer(row) for row in rows if row["network"] == network)
        networks = sorted({str(row["network"]) for row in rows})
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _bad(f"it cannot be read ({str(error)[:200]})") from error
    if not peers:
        raise _bad(f"it has no row of {network}; its networks: {', '.join(networks)[:200] or 'none'}")
    return Peers(machine, peers)


def _peer(row: Mapping[str, Any]) -> Peer:
    numbers = {
        key: None if row[key] is None else _number(row[key])
        for key in ("one_thread_ms", "all_threads_ms", "cold_start_ms", "memory_mb", "file_mb", "agreement")
    }
    times = tuple(_number(value) for value in row.get("one_thread_times_ms") or ())
    problem = row["problem"]
    return Peer(str(row["subject"]), **numbers, problem=None if problem is None else str(problem), times=times)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{str(value)[:80]!r} is not a measured number")
    return float(value)


def _bad(problem: str) -> UsageError:
    return UsageError(
        f"the file of --peers cannot be used: {problem}",
        hint="give the peers.json that benchmarks/peers.py wrote, run with this network among its --networks",
        code="bad-peers",
    )


def with_peers(page: str, peers: Peers) -> str:
    """Return a bundle's page with the section inserted at its mark, or before its last section."""
    times = strips([(peer.subject, peer.times) for peer in peers.peers])
    section = render("peers.html", machine=peers.machine, peers=peers.peers, strips=times)
    if MARK in page:
        return page.replace(MARK, section, 1)
    before, mark, after = page.rpartition("<section>")
    return f"{before}{section}{mark}{after}"
