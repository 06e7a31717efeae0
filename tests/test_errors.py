"""The error tree, and its list in the documentation."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from xxdeploy import errors
from xxdeploy.cli.app import COMMANDS
from xxdeploy.errors import XXDeployError

ROOT = Path(__file__).resolve().parent.parent
CLASSES = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, XXDeployError)
}
ROW = re.compile(
    r"^\| `(?P<code>[^`]+)` \| (?P<kind>\w+) \| (?P<status>\d+) \| (?P<meaning>.+?) \| (?P<remedy>.+?) \|$"
)


def literals(node: ast.AST) -> list[str]:
    """The strings that an expression can give: one literal, or both sides of a condition."""
    if isinstance(node, ast.IfExp):
        return literals(node.body) + literals(node.orelse)
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def codes_in(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Yield each (code, error class): from ``Kind(..., code="x")``, and from ``code = "x"`` in a class body."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) and node.func.id in CLASSES else None
            for keyword in node.keywords:
                if keyword.arg is not None and keyword.arg.endswith("code"):
                    yield from ((code, name) for code in literals(keyword.value))
        elif isinstance(node, ast.ClassDef):
            for statement in node.body:
                if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "code":
                    yield from ((code, node.name) for code in literals(statement.value))


def raised() -> dict[str, set[str | None]]:
    """Every code of the package, with the classes that carry it (None where a helper builds the error)."""
    kinds: dict[str, set[str | None]] = defaultdict(set)
    for path in sorted((ROOT / "xxdeploy").rglob("*.py")):
        for code, kind in codes_in(ast.parse(path.read_text(encoding="utf-8"))):
            kinds[code].add(kind)
    return kinds


def documented() -> dict[str, re.Match[str]]:
    lines = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8").splitlines()
    rows = [row for line in lines if (row := ROW.match(line))]
    assert len(rows) == len({row["code"] for row in rows}), "a code has two rows"
    return {row["code"]: row for row in rows}


def test_the_walk_finds_every_way_to_give_a_code() -> None:
    tree = ast.parse(
        'raise UsageError("x", hint="y", code="one" if a == "b" else "two")\n'
        'helper(code="three")\n'
        'class NewError(UsageError):\n    code = "four"\n'
        'other(name="five")\n'
        'raise UsageError("x", hint="y", code=a.code)\n'
    )
    assert set(codes_in(tree)) == {
        ("one", "UsageError"),
        ("two", "UsageError"),
        ("three", None),
        ("four", "NewError"),
    }


def test_docs_list_every_code_and_no_other() -> None:
    code, docs = set(raised()), set(documented())
    missing, extra_rows = sorted(code - docs), sorted(docs - code)
    assert not missing, f"errors.md lacks {len(missing)} codes that the package raises: {', '.join(missing)}"
    assert not extra_rows, f"errors.md lists {len(extra_rows)} codes that nothing raises: {', '.join(extra_rows)}"


def test_docs_are_sorted_and_name_commands_that_exist() -> None:
    text = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    for section in text.split("\n## ")[1:]:
        codes = [row["code"] for line in section.splitlines() if (row := ROW.match(line))]
        assert codes == sorted(codes), section.splitlines()[0]
    assert set(re.findall(r"`xxdeploy (\w+)", text)) <= set(COMMANDS)


def test_docs_name_the_class_and_its_exit_status() -> None:
    kinds = raised()
    for code, row in documented().items():
        known = {kind for kind in kinds.get(code, ()) if kind}
        assert row["kind"] in CLASSES or row["kind"] == "none", f"{code}: there is no class {row['kind']}"
        if row["kind"] in CLASSES:
            assert int(row["status"]) == CLASSES[row["kind"]].exit_status, code
            assert not known or row["kind"] in known, f"{code} is a {known}, errors.md says {row['kind']}"


def test_codes_are_kebab_case() -> None:
    assert [code for code in raised() if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)] == []


def test_the_tree_is_that_of_its_docstring() -> None:
    assert errors.__doc__ is not None
    drawn = dict(re.findall(r"(\w+Error)\s+(\d)\b", errors.__doc__))
    assert {name: kind.exit_status for name, kind in CLASSES.items()} == {k: int(v) for k, v in drawn.items()}


def test_an_error_has_a_code_a_message_and_a_hint() -> None:
    error = errors.UsageError("it is wrong", hint="do that", code="some-cause")
    assert (str(error), error.message, error.hint, error.code) == (
        "it is wrong\n hint: do that [some-cause]",
        "it is wrong",
        "do that",
        "some-cause",
    )
    assert error.render() == "error[some-cause]: it is wrong\n hint: do that"
    assert errors.UsageError("x", hint="y").code == "usage"
    assert errors.UsageError.code == "usage"  # the code of one error is not that of its class
