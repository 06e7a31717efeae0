"""Sessions in a forked process: an engine's threads do not exist there, and ending the engine would wait for them.

gunicorn's ``preload_app`` and ``multiprocessing`` on Linux fork after the bundle was loaded. Without this module,
a run may hang in the child if another thread of the parent was within a run, and a child that exits normally dies of a
segmentation fault or hangs (measured with onnxruntime 1.31 and OpenVINO 2026).
"""

from __future__ import annotations

import contextlib
import os
from typing import Protocol
from weakref import WeakSet

from xxdeploy.errors import UsageError


class Forked(Protocol):
    """A session that must know when its process is a forked one."""

    def abandon(self) -> list[object]:
        """Let go of the engine, and return its objects, which must never be destroyed. Called first in the child."""


_watched: WeakSet[Forked] = WeakSet()
_registered = False


def watch(session: Forked) -> None:
    """Let ``session.abandon`` be called in each process that is forked from this one."""
    global _registered
    if not _registered and hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
        os.register_at_fork(after_in_child=_abandon_all)
        _registered = True
    _watched.add(session)


def _abandon_all() -> None:
    engines = [engine for session in list(_watched) for engine in session.abandon()]
    if engines:
        with contextlib.suppress(ImportError, OSError, AttributeError):  # no ctypes, or no glibc
            _keep_until_the_end(engines)


def _keep_until_the_end(engines: list[object]) -> None:
    """Never destroy ``engines``, and end the process without the destructors of its libraries.

    Those of onnxruntime wait for a thread of the parent. ``exit()`` calls the functions that were registered with it,
    the last one first: here the C buffers are written, and then ``_exit(status)`` ends the process.
    """
    import ctypes

    for engine in engines:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
    libc = ctypes.CDLL(None)
    libc.on_exit(libc._exit, None)
    libc.__cxa_atexit(libc.fflush, None, None)


def other_process(name: str, problem: str) -> UsageError:
    """Return the error of a session in another process than the one that loaded it."""
    return UsageError(
        f"{name} {problem}", hint="call load() in each process, with the bundle's path", code="other-process"
    )
