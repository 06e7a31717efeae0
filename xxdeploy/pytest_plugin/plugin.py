"""The pytest plugin: options, a marker, fixtures, and one test per check of each given bundle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from xxdeploy.errors import MissingDependencyError, UsageError, XXDeployError

if TYPE_CHECKING:
    from xxdeploy.pytest_plugin.subject import Subject

MARKER = "xxdeploy"
CHECKS = ("hashes", "records", "golden", "parity", "agreement", "accuracy", "latency", "drift")
"""In the order in which they run: cheap checks, and those that explain the others, come first."""
_ON_A_DEVICE = ("hashes", "golden", "accuracy")
"""The checks that need no library of the exporter. The others are skipped where one is missing."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, all of which begin with ``--xxdeploy``."""
    group = parser.getgroup("xxdeploy", "parity of exported bundles")
    add = group.addoption
    add("--xxdeploy-bundle", action="append", default=[], metavar="BUNDLE", help="test this bundle; can be repeated")
    add(
        "--xxdeploy-eval",
        metavar="DIR",
        help="labeled images for accuracy, agreement and parity; without labels for pictures, masks and values",
    )
    add(
        "--xxdeploy-samples",
        type=int,
        metavar="N",
        help="number of images to use, drawn with a fixed seed (default: all)",
    )
    add(
        "--xxdeploy-model",
        metavar="NAME|FILE",
        help="the Keras model of the bundle, to find the first wrong layer; 'source' builds the model in the manifest",
    )
    add("--xxdeploy-weights", metavar="imagenet|sample|FILE", help="weights of --xxdeploy-model NAME")
    add("--xxdeploy-key", metavar="FILE", help="public key; the bundle must carry its signature")
    add("--xxdeploy-min-version", type=int, default=0, metavar="N", help="lowest signed version to accept")
    add("--xxdeploy-card", metavar="FILE|BUNDLE", help="earlier result card or bundle to compare with")
    add(
        "--xxdeploy-beside",
        metavar="BUNDLE",
        help="bundle to compare the latency with (default: the float graph of the model)",
    )
    add("--xxdeploy-budget", type=float, metavar="RATIO", help="highest latency, relative to --xxdeploy-beside")
    add("--xxdeploy-min-agreement", type=float, metavar="SHARE", help="lowest share (0..1) of images with Keras' class")
    add("--xxdeploy-min-psnr", type=float, metavar="DB", help="pictures: lowest mean PSNR against Keras, in dB")
    add("--xxdeploy-min-iou", type=float, metavar="SHARE", help="masks: lowest mean IoU (0..1) with Keras' masks")
    add("--xxdeploy-max-error", type=float, metavar="E", help="values: largest error that 95 %% of the values keep to")
    add("--xxdeploy-min-accuracy", type=float, metavar="SHARE", help="lowest top-1 accuracy (0..1)")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "xxdeploy(bundle=..., evaluation=..., model=..., ...): the bundle of the fixture xxdeploy_bundle; its "
        "arguments are named as the options of the command line; `-m xxdeploy` selects these tests",
    )


@pytest.hookimpl(tryfirst=True)  # before -k and -m select tests
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the checks of each bundle in front of the user's own tests."""
    checks = []
    for bundle in config.getoption("xxdeploy_bundle"):
        subject = _Later(config, Path(bundle))
        name = Path(bundle).name or Path(bundle).resolve().name
        for check in CHECKS:
            nodeid = f"xxdeploy/{name}::{check}"
            item = BundleCheck.from_parent(session, name=check, nodeid=nodeid, subject=subject)
            item.add_marker(MARKER)
            checks.append(item)
    items[:0] = checks


@pytest.fixture
def xxdeploy_bundle(request: pytest.FixtureRequest) -> Subject:
    """Return the bundle of the marker ``xxdeploy``, or of ``--xxdeploy-bundle``, as a ``Subject``.

    ``.runtime`` predicts; ``.check_golden()``, ``.check_parity()`` and the other checks raise an error for a fault.
    """
    marker = request.node.get_closest_marker(MARKER)
    given = dict(marker.kwargs) if marker is not None else {}
    if marker is not None and marker.args:
        given["bundle"] = marker.args[0]
    named = [given.pop("bundle")] if "bundle" in given else request.config.getoption("xxdeploy_bundle")
    if not named:
        pytest.skip("no bundle is given: add --xxdeploy-bundle, or the marker xxdeploy(bundle=...)")
    path = Path(named[0])
    if not path.is_absolute() and marker is not None and not path.exists():
        path = request.path.parent / path  # relative to the test file
    return _subject(request.config, path, given)


@pytest.fixture
def xxdeploy_runtime(xxdeploy_bundle: Subject) -> Any:
    """Return the ``xxdeploy.runtime.Runtime`` of ``xxdeploy_bundle``."""
    return xxdeploy_bundle.runtime


class BundleCheck(pytest.Item):
    """One check of one bundle."""

    def __init__(self, *, subject: _Later, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._subject = subject

    def runtest(self) -> None:
        """Run the check; its facts become properties in the JUnit file."""
        try:
            facts = getattr(self._subject.get(), f"check_{self.name}")()
        except MissingDependencyError as error:
            if self.name not in _ON_A_DEVICE and error.code == "missing-dependency":
                pytest.skip(f"{error.message}: {error.hint}")
            raise
        self.user_properties += [(f"xxdeploy-{key}", value) for key, value in facts.items()]
        told = "; ".join(f"{key} {value}" for key, value in facts.items())
        self.add_report_section("call", "xxdeploy", told)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the text of an error of xxdeploy, or the traceback of a bug."""
        if isinstance(excinfo.value, XXDeployError):
            return excinfo.value.render()
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the bundle and the check."""
        return self.path, None, self.nodeid


class _Later:
    """A bundle that is opened when its first check runs, once for all checks; an error then fails each check."""

    def __init__(self, config: pytest.Config, bundle: Path) -> None:
        self._config, self._bundle = config, bundle
        self._subject: Subject | None = None

    def get(self) -> Subject:
        if self._subject is None:
            self._subject = _subject(self._config, self._bundle, {})
        return self._subject


def _subject(config: pytest.Config, bundle: Path, given: dict[str, Any]) -> Subject:
    from xxdeploy.pytest_plugin.subject import Subject, SubjectOptions

    names = [field.name for field in fields(SubjectOptions)]
    asked = {name: config.getoption(f"xxdeploy_{'eval' if name == 'evaluation' else name}") for name in names}
    unknown = sorted(set(given) - set(asked))
    if unknown:
        raise UsageError(
            f"the marker xxdeploy has no argument {', '.join(unknown)}",
            hint=f"its arguments are bundle, {', '.join(asked)}",
            code="unknown-marker-name",
        )
    return Subject(bundle, SubjectOptions(**{**asked, **given}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the facts of each check on one line."""
    lines = list(_lines(terminalreporter))
    if lines:
        terminalreporter.section("xxdeploy")
        for line in lines:
            terminalreporter.line(line)


def _lines(reporter: Any) -> Iterator[str]:
    for report in reporter.getreports("passed"):
        if report.when == "call" and report.nodeid.startswith("xxdeploy/"):
            yield f"{report.nodeid}: " + "; ".join(
                text for name, text in report.sections if name == "Captured xxdeploy call"
            )
