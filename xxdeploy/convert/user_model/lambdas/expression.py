"""Follow the instructions of a function on a stack of symbols: tensors become trees, and nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xxdeploy.convert.user_model.lambdas.bytecode import Instruction, instructions
from xxdeploy.convert.user_model.lambdas.functions import Name, call
from xxdeploy.convert.user_model.lambdas.marshal_code import UNREADABLE, Code, UnknownCodeError, read_code
from xxdeploy.convert.user_model.lambdas.tree import INPUT, Node, binary, is_number

_STAR = 0x04 | 0x08  # *args and **kwargs
_GENERATORS = 0x20 | 0x80 | 0x200
_OF_KERAS = {"training": False, "mask": None}
"""Arguments that Keras fills in itself, with their values in inference."""
_MAX_STACK = 100


@dataclass(frozen=True, slots=True)
class Function:
    """The function of a Lambda layer as the file stores it.

    ``bytecode`` is marshalled; ``defaults`` are those of its last arguments; ``closure`` the values of its free names;
    ``arguments`` the keyword arguments of each call; ``tensors`` the number of tensors in the list that it is called
    on, 0 if it is called on a tensor.
    """

    bytecode: bytes
    defaults: Sequence[Any] = ()
    closure: Sequence[Any] = ()
    arguments: Mapping[str, Any] | None = None
    tensors: int = 0


def expression(function: Function) -> Node:
    """Return the expression that a function computes, the same in each version of Python that its bytes may be of.

    Raises
    ------
    UnknownCodeError
        The function is not an expression of known operations; the text says why.
    """
    found: list[Node] = []
    reasons: list[str] = []
    for code in read_code(function.bytecode):
        for _, steps in instructions(code):
            try:
                node = _result(steps, _variables(code, function), dict(zip(code.free, function.closure, strict=False)))
            except UnknownCodeError as error:
                reasons.append(str(error))
                continue
            if node not in found:
                found.append(node)
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownCodeError("its bytecode means different things in different versions of Python")
    told = [reason for reason in reasons if reason != UNREADABLE] or reasons
    raise UnknownCodeError(told[0] if told else "it contains more than an expression")


def _variables(code: Code, function: Function) -> dict[str, Any]:
    if code.flags & (_STAR | _GENERATORS) or not code.arguments:
        raise UnknownCodeError("it has arguments of a rare kind")
    names = code.variables[: code.arguments]
    values = dict(zip(names[len(names) - len(function.defaults) :], function.defaults, strict=False))
    values |= {key: value for key, value in _OF_KERAS.items() if key in names[1:]}
    values |= function.arguments or {}
    one = Node(INPUT, (), {"index": 0})
    several = tuple(Node(INPUT, (), {"index": index}) for index in range(function.tensors))
    values[names[0]] = several if function.tensors else one
    if unknown := [name for name in names if name not in values]:
        raise UnknownCodeError(f"it has the arguments {', '.join(unknown)[:80]}")
    return {name: values[name] for name in names}


def _result(steps: Sequence[Instruction], variables: dict[str, Any], closure: Mapping[str, Any]) -> Node:
    machine = _Machine(variables, closure)
    for position, step in enumerate(steps):
        if step.name == "RETURN_VALUE":
            value = machine.pop()
            if position != len(steps) - 1 or not isinstance(value, Node):
                raise UnknownCodeError("it does not return a tensor")
            return value
        machine.run(step)
    raise UnknownCodeError("it does not return a tensor")


class _Machine:
    def __init__(self, variables: dict[str, Any], closure: Mapping[str, Any]) -> None:
        self._variables, self._closure = variables, closure
        self._stack: list[Any] = []
        self._keywords: tuple[str, ...] = ()
        self._steps: dict[str, Callable[[Any], None]] = {
            "LOAD_CONST": self._push,
            "LOAD_FAST": lambda name: self._push(self._named(self._variables, name)),
            "LOAD_DEREF": lambda name: self._push(_plain(self._named(self._closure, name))),
            "LOAD_GLOBAL": lambda name: self._push(Name(name)),
            "LOAD_ATTR": self._attribute,
            "IMPORT_NAME": self._import,
            "IMPORT_FROM": lambda name: self._push(self._joined(self._stack[-1], name)),
            "STORE_FAST": lambda name: self._variables.update({name: self.pop()}),
            "POP_TOP": lambda _: self._drop(),
            "BINARY": self._binary,
            "BINARY_SUBSCR": lambda _: self._subscript(self.pop()),
            "BINARY_SLICE": self._slice,
            "UNARY_NEGATIVE": self._negative,
            "UNARY_POSITIVE": lambda _: None,
            "BUILD_TUPLE": lambda count: self._push(self._take(count)),
            "BUILD_LIST": lambda count: self._push(self._take(count)),
            "LIST_EXTEND": self._extend,
            "LIST_TO_TUPLE": lambda _: None,
            "BUILD_SLICE": lambda count: self._push(slice(*self._take(count))),
            "UNPACK_SEQUENCE": self._unpack,
            "KW_NAMES": self._remember,
            "CALL_FUNCTION": self._call,
            "CALL_FUNCTION_KW": self._call_keywords,
            "CALL_PAIRS": self._call_pairs,
        }

    def run(self, step: Instruction) -> None:
        """Do one step."""
        if step.name not in self._steps:
            raise UnknownCodeError("it contains more than an expression")
        self._steps[step.name](step.value)

    def pop(self) -> Any:
        """Take the top of the stack."""
        if not self._stack:
            raise UnknownCodeError(UNREADABLE)
        return self._stack.pop()

    def _drop(self) -> None:
        self.pop()

    def _push(self, value: Any) -> None:
        self._stack.append(value)
        if len(self._stack) > _MAX_STACK:
            raise UnknownCodeError("it contains more than an expression")

    def _take(self, count: int) -> tuple[Any, ...]:
        if count > len(self._stack):
            raise UnknownCodeError(UNREADABLE)
        return tuple(reversed([self.pop() for _ in range(count)]))

    def _named(self, values: Mapping[str, Any], name: str) -> Any:
        if name not in values:
            raise UnknownCodeError(f"it reads {name[:80]}, whose value the file does not hold")
        return values[name]

    def _attribute(self, name: str) -> None:
        self._push(self._joined(self.pop(), name))

    def _joined(self, value: Any, name: str) -> Name:
        if not isinstance(value, Name) or len(value.dotted) > 200:
            raise UnknownCodeError(f"it reads the attribute {name[:80]}")
        return Name(f"{value.dotted}.{name}")

    def _import(self, name: str) -> None:
        names = self._take(2)[1]  # after the level; None: `import a.b` binds a
        self._push(Name(name if names is not None else name.partition(".")[0]))

    def _binary(self, operator: str) -> None:
        left, right = self._take(2)
        self._push(binary(operator, left, right))

    def _negative(self, _: Any) -> None:
        value = self.pop()
        if not isinstance(value, Node) and not is_number(value):
            raise UnknownCodeError("it computes with other things than tensors and numbers")
        self._push(Node("negative", (value,)) if isinstance(value, Node) else -value)

    def _subscript(self, index: Any) -> None:
        value = self.pop()
        if isinstance(value, tuple) and isinstance(index, int) and -len(value) <= index < len(value):
            self._push(value[index])
        elif isinstance(value, Node):
            self._push(Node("getitem", (value,), {"index": _index(index)}))
        else:
            raise UnknownCodeError("it reads an element of something else than a tensor")

    def _slice(self, _: Any) -> None:
        start, stop = self._take(2)
        self._subscript(slice(start, stop))

    def _extend(self, depth: int) -> None:
        more, target = self.pop(), self.pop()
        if depth != 1 or not isinstance(more, tuple) or not isinstance(target, tuple) or len(more) > _MAX_STACK:
            raise UnknownCodeError("it contains more than an expression")
        if len(target) > _MAX_STACK:
            raise UnknownCodeError("it contains over a hundred constants")
        self._push((*target, *more))

    def _unpack(self, count: int) -> None:
        value = self.pop()
        if not isinstance(value, tuple) or len(value) != count:
            raise UnknownCodeError("it unpacks something else than its input")
        for item in reversed(value):
            self._push(item)

    def _remember(self, names: Any) -> None:
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise UnknownCodeError(UNREADABLE)
        self._keywords = names

    def _call_keywords(self, count: int) -> None:
        self._remember(self.pop())
        self._call(count)

    def _call(self, count: int) -> None:
        names, self._keywords = self._keywords, ()
        values = self._take(count)
        if len(names) > count:
            raise UnknownCodeError(UNREADABLE)
        at = count - len(names)
        self._push(self._called(values[:at], dict(zip(names, values[at:], strict=True))))

    def _call_pairs(self, counts: tuple[int, int]) -> None:
        plain, named = counts
        pairs = self._take(2 * named)
        if not all(isinstance(name, str) for name in pairs[::2]):
            raise UnknownCodeError(UNREADABLE)
        values = self._take(plain)
        self._push(self._called(values, dict(zip(pairs[::2], pairs[1::2], strict=True))))

    def _called(self, values: Sequence[Any], options: dict[str, Any]) -> Any:
        function = self.pop()
        if not isinstance(function, Name):
            raise UnknownCodeError("it calls something else than a function of Keras or TensorFlow")
        return call(function, values, options)


def _plain(value: Any) -> Any:
    """Return a captured value if it is a number, or a list of numbers."""
    if is_number(value) or value is None:
        return value
    if isinstance(value, (list, tuple)) and all(is_number(item) for item in value):
        return tuple(value)
    raise UnknownCodeError("it has captured something else than numbers")


def _index(index: Any) -> list[Any]:
    """Return the parts of a subscript as data: integers, ``"..."``, or ``[start, stop, step]``. The batch is whole."""
    parts = index if isinstance(index, tuple) else (index,)
    read: list[Any] = []
    for part in parts:
        if part is Ellipsis:
            read.append("...")
        elif isinstance(part, slice):
            ends = [part.start, part.stop, part.step]
            if not all(end is None or (isinstance(end, int) and not isinstance(end, bool)) for end in ends):
                raise UnknownCodeError("it computes the bounds of a slice")
            read.append(ends)
        elif isinstance(part, int) and not isinstance(part, bool):
            read.append(part)
        else:
            raise UnknownCodeError("it computes an index")
    if read.count("...") > 1 or not read or read[0] not in ("...", [None, None, None]):
        raise UnknownCodeError("it takes images out of the batch")
    return read
