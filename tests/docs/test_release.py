"""A tag is released only with its section of the changelog, whose text becomes the release notes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import release
import yaml
from make_constraints import extras, requirements
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent.parent
CHANGELOG = """# Changelog

## [Unreleased]

## [1.10.0] - 2026-12-01

### Added

- A thing. See [docs](docs/a.md).

## [1.1.0] - 2026-11

## [1.0.0] - 2026-10-01

- The first.

[1.0.0]: https://example.org
"""


@pytest.mark.parametrize("tag", ["v1.10.0", "v1.10.0rc2", "v1.0.0"])
def test_a_version_with_its_section_is_released(tag: str) -> None:
    assert release.faults(tag, CHANGELOG, published=True) == []


@pytest.mark.parametrize(
    ("tag", "fault"),
    [
        ("1.10.0", "is not vX.Y.Z"),
        ("v1.10", "is not vX.Y.Z"),
        ("v01.10.0", "is not vX.Y.Z"),
        ("v1.10.0-rc1", "is not vX.Y.Z"),
        ("v1.10.0\n", "is not vX.Y.Z"),
        ("v1x10.0", "is not vX.Y.Z"),
        ("v2.0.0", "has no section '## [2.0.0]"),
        ("v1.1.0", "'2026-11', not YYYY-MM-DD"),
        ("v1.1.0", "[1.1.0] of CHANGELOG.md is empty"),
    ],
)
def test_another_tag_is_refused(tag: str, fault: str) -> None:
    assert any(fault in problem for problem in release.faults(tag, CHANGELOG, published=True))


def test_a_release_has_pages_that_know_of_it() -> None:
    assert release.faults("v1.0.0", CHANGELOG, published=False)[0].startswith(
        "PUBLISHED in scripts/release.py is False"
    )


def test_the_pages_say_whether_the_package_is_on_the_index() -> None:
    assert release.write_pages(check=True) == [], "run python scripts/release.py pages"
    assert Path("docs/tutorials/first-export.md") in release.pages()


@pytest.mark.parametrize("path", [Path("README.md"), Path("docs/tutorials/a.md"), release.INSTALL])
def test_a_notice_comes_and_goes(path: Path) -> None:
    text = "# Title\n\nA text.\n\n## More\n"
    before = release.page_with_block(path, text, published=False)
    assert "not on the package index yet" in before
    assert release.page_with_block(path, before, published=False) == before
    assert release.page_with_block(path, before, published=True).rstrip() == text.rstrip()


def test_the_notes_are_the_section() -> None:
    assert release.section_of(CHANGELOG, "1.10.0") == (
        "2026-12-01",
        "### Added\n\n- A thing. See [docs](docs/a.md).",
    )
    assert release.section_of(CHANGELOG, "1.0.0") == ("2026-10-01", "- The first.")


def test_a_dot_of_a_version_is_no_wildcard() -> None:
    assert release.section_of("## [1x0.0] - 2026-01-01\nA\n", "1.0.0") is None


def test_unreleased_changes_have_a_section() -> None:
    assert re.search(r"^## \[Unreleased\]$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def workflows() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml")}


@pytest.mark.parametrize("name", sorted(workflows()))
def test_workflows_run_scripts_that_exist(name: str) -> None:
    scripts = re.findall(r"scripts/\w+\.py", workflows()[name])
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


def test_workflows_run_the_pythons_that_the_package_accepts() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    low, high = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups())  # type: ignore[union-attr]
    named = {text.rpartition(" ")[2] for text in project["classifiers"] if ":: Python :: 3." in text}
    assert named == {f"3.{minor}" for minor in range(low, high)}
    jobs = yaml.safe_load(workflows()["checks.yml"])["jobs"]
    for job in ("checks", "systems"):
        assert jobs[job]["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(low, high)]


def test_only_the_jobs_that_write_may_write() -> None:
    """A job without ``permissions`` has those of its workflow, which are to read."""
    for text in workflows().values():
        document = yaml.safe_load(text)
        assert document["permissions"] == {"contents": "read"}
        for name, job in document["jobs"].items():
            writes = {scope for scope, right in job.get("permissions", {}).items() if right == "write"}
            allowed = {
                "attest": {"id-token", "attestations"},
                "publish": {"id-token"},
                "release": {"contents"},
            }
            assert writes == allowed.get(name, set()), name


def test_constraints_name_a_version_that_each_requirement_accepts() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    wanted = [each for each in requirements("dev", extras()) if each.marker is None or each.marker.evaluate()]
    missing = [str(each) for each in wanted if canonicalize_name(each.name) not in tested]
    assert missing == [], "run python scripts/make_constraints.py"
    refused = [str(each) for each in wanted if not each.specifier.contains(tested[canonicalize_name(each.name)])]
    assert refused == [], "run python scripts/make_constraints.py"
