"""The keyword arguments of ``load``, checked once: names, types, and arguments that exclude each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict

from xxdeploy.errors import UsageError
from xxdeploy.runtime.bundle.records import Variant
from xxdeploy.runtime.bundle.signature import KeyLike, Trust, trust
from xxdeploy.runtime.engines.select import LITERT, Settings
from xxdeploy.runtime.engines.session import SessionLike
from xxdeploy.runtime.image.picture import MAX_PIXELS

DEVICE_PIXELS = 64_000_000
"""More than the 24, 48 and 50 million of phones. docs/how-to/pictures.md has the memory that they take."""
TUNINGS = ("stored", "measure", "off")
_KINDS: dict[str, type | tuple[type, ...]] = {
    "check": bool,
    "selftest": bool,
    "threads": (int, type(None)),
    "engine": (str, type(None)),
    "variant": (str, type(None)),
    "max_pixels": int,
}
_RENAMED = {"tune": "tuning='measure'", "tuned": "tuning='off' (before: tuned=False) or 'stored'"}


class LoadKeywords(TypedDict, total=False):
    """The names of :class:`LoadOptions`, for type checkers."""

    engine: str | None
    threads: int | None
    variant: str | None
    tuning: str
    key: KeyLike | None
    min_version: int
    check: bool
    selftest: bool
    max_pixels: int
    session: SessionLike | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)  # each method made takes 0.2 ms of a start
class LoadOptions:
    """How ``load`` opens a bundle; :func:`xxdeploy.runtime.load` explains each option and its errors.

    ``trust`` is made of ``key`` and ``min_version``.
    """

    engine: str | None = None
    threads: int | None = None
    variant: str | None = None
    tuning: str = "stored"
    key: KeyLike | None = None
    min_version: int = 0
    check: bool = True
    selftest: bool = False
    max_pixels: int = DEVICE_PIXELS
    session: SessionLike | None = None
    trust: Trust | None = field(init=False)

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise TypeError(f"load(): {name} must not be {value!r}")
        if self.tuning not in TUNINGS:
            raise UsageError(
                f"there is no tuning {self.tuning!r}", hint=f"it is {', '.join(TUNINGS)}", code="tuning-invalid"
            )
        object.__setattr__(self, "trust", trust(self.key, self.min_version))
        if self.trust is not None and not self.check:
            raise UsageError(
                "check=False with a key would trust files that nobody has compared with the signed hashes",
                hint="leave check=False out",
                code="key-without-check",
            )
        object.__setattr__(self, "max_pixels", min(self.max_pixels, MAX_PIXELS))

    @classmethod
    def of(cls, keywords: dict[str, Any]) -> LoadOptions:
        """Check the names of keyword arguments, too."""
        known = {entry.name for entry in fields(cls) if entry.init}
        for name in keywords:
            if name in _RENAMED:
                raise UsageError(
                    f"load() has no argument {name} any more", hint=f"give {_RENAMED[name]}", code="renamed-argument"
                )
            if name not in known:
                raise TypeError(f"load() got an unexpected keyword argument {name!r}")
        return cls(**keywords)

    def settings_for(self, variants: Sequence[Variant]) -> Settings:
        """Return the engine that is asked for, or else the one that reads the ``variants``, all or the chosen one."""
        named = [variant for variant in variants if self.variant in (None, variant.name)]
        default = LITERT if named and all(LITERT in variant.requires for variant in named) else "onnxruntime"
        return Settings(self.engine or default, self.threads)

    @property
    def may_be_tuned(self) -> bool:
        """Whether nothing is fixed that a stored choice would change."""
        fixed = (self.session, self.engine, self.threads, self.variant)
        return self.tuning != "off" and all(value is None for value in fixed)
