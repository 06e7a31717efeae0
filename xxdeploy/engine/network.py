"""Parse ONNX into a strongly typed network of TensorRT, and keep its owners alive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xxdeploy.engine.library import Library
from xxdeploy.errors import EngineError
from xxdeploy.onnxmodel.model import OnnxModel


@dataclass(frozen=True, slots=True)
class ParsedNetwork:
    """A network and its owners: destroyed in another order, TensorRT crashes. ``model`` owns the weights' bytes."""

    library: Library
    logger: Any
    builder: Any
    network: Any
    parser: Any
    model: OnnxModel


def parse_network(library: Library, model: OnnxModel) -> ParsedNetwork:
    """Parse ``model``, which must have one input.

    Raises
    ------
    EngineError
        ``engine-parse``: an operator, a type or a layout of Q/DQ that the library does not know, or not one input;
        ``engine-build``: the library does not start; ``engine-weak-types``: it does not hold to the graph's types.
    """
    trt = library.module
    logger = library.logger()
    builder = trt.Builder(logger)
    if not builder:
        raise EngineError(
            f"{library.target} {library.version} does not start: {'; '.join(logger.errors[:2])}",
            hint="`xxdeploy doctor` says which libraries it needs",
            code="engine-build",
        )
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    if flag is not None and not network.get_flag(flag):
        raise EngineError(
            f"{library.target} {library.version} made a network that is not strongly typed",
            hint=f"pip install --upgrade 'xxdeploy[{library.target}]'",
            code="engine-weak-types",
        )
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.to_bytes()):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise EngineError(
            f"{library.target} {library.version} cannot read the graph: {_first(errors, logger)}",
            hint="`xxdeploy inspect` shows its operators; report the model if xxdeploy wrote it",
            code="engine-parse",
        )
    if network.num_inputs != 1:
        raise EngineError(
            f"the graph has {network.num_inputs} inputs; an engine of xxdeploy has one",
            hint="export it with xxdeploy",
            code="engine-parse",
        )
    return ParsedNetwork(library, logger, builder, network, parser, model)


def _first(errors: list[Any], logger: Any) -> str:
    if errors:
        error = errors[0]
        node = error.node_name() if hasattr(error, "node_name") else ""
        return f"{error.desc()}{f' (node {node})' if node else ''}"
    return "; ".join(logger.errors[:1]) or "no reason given"
