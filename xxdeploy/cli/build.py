"""``xxdeploy build``: an engine of TensorRT from a bundle, on the device that will run it or for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from xxdeploy.cli.output import AsJson, print_facts, print_json
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.exporter.engine_files import BuiltEngine

NAME = "build"
EXAMPLE = """Examples:

  xxdeploy build exports/mobilenetv2-int8-tensorrt
  xxdeploy build exports/mobilenetv2-int8-tensorrt --target tensorrt-rtx --gpu sm86,sm89 --batch 1,4,16"""


def command(
    bundle: Path,
    /,
    *,
    target: Literal["tensorrt", "tensorrt-rtx"] = "tensorrt-rtx",
    gpu: str = "",
    batch: str = "1,1,8",
    variant: str | None = None,
    out: Path | None = None,
    workspace: Annotated[int | None, Parameter(name="--workspace")] = None,
    any_version: bool = False,
    any_gpu: bool = False,
    strip: bool = False,
    refit: bool = False,
    force: bool = False,
    key: Path | None = None,
    min_version: int = 0,
    as_json: AsJson = False,
) -> None:
    """Build an engine from a bundle's ONNX model. Its precision is proved first; without the proof nothing is written.

    Parameters
    ----------
    bundle
        Folder that `xxdeploy export` wrote.
    target
        The library: TensorRT for RTX builds without a GPU, too.
    gpu
        Cards to build for (tensorrt-rtx): sm75, sm80, sm86, sm89, sm120, sm121. By default the one that is here.
    batch
        Smallest, usual and largest batch.
    variant
        Which of the bundle's models. By default the best that TensorRT runs in its precision.
    out
        Folder for the engine. By default beside the bundle, its name with `-engine`.
    workspace
        The builder's scratch memory, MiB.
    any_version
        The engine loads in later versions of the library.
    any_gpu
        The engine runs on every card since Ampere, somewhat slower (tensorrt).
    strip
        Leave the weights out of the engine.
    refit
        Let weights be exchanged later.
    force
        Replace an engine.
    key
        Public key (.pub) with which the bundle must be signed.
    min_version
        Refuse a bundle that was signed as an older version.
    """
    with extra("export"):
        from xxdeploy.cli.progress import ProgressView
        from xxdeploy.engine import EngineOptions, parse_batch, parse_gpus
        from xxdeploy.exporter.engine_files import build_from_bundle
    options = EngineOptions(
        target=target,
        gpus=parse_gpus(gpu),
        batch=parse_batch(batch),
        workspace=None if workspace is None else workspace << 20,
        any_version=any_version,
        any_gpu=any_gpu,
        strip=strip,
        refit=refit,
    )
    # resolve(): "." and "folder/" have no name of their own
    folder = bundle.resolve().with_name(f"{bundle.resolve().name}-engine") if out is None else out
    with ProgressView(as_json=as_json) as progress:
        built = build_from_bundle(
            bundle,
            options,
            folder,
            variant=variant,
            force=force,
            on_progress=progress,
            key=key,
            min_version=min_version,
        )
    if as_json:
        print_json({"engine": str(built.folder), "variant": built.variant, **built.facts})
    else:
        print_facts(_facts(built))


def _facts(built: BuiltEngine) -> dict[str, str]:
    engine, facts = built.engine, built.facts
    shares = ", ".join(f"{100 * share:.1f} % {name}" for name, share in facts["shares"].items())
    depth = "the parsed network" if facts["depth"] == "network" else "the parsed network and the built layers"
    cards = ", ".join(engine.options.gpus) or "this machine's GPU"
    batch = engine.options.batch
    return {
        "engine": str(built.folder),
        "from": f"variant {built.variant}, SHA-256 {engine.model_digest[:12]}",
        "for": f"{engine.options.target} {engine.version} on {cards}, batches of {batch.min} to {batch.max}",
        "precision": f"{shares} of {facts['macs'] / 1e6:.0f} million multiplications, read from {depth}",
        "size": f"{engine.size / 1e6:.1f} MB, of that weights {facts['weight_bytes'] / 1e6:.1f} "
        f"({facts['float_weight_bytes'] / 1e6:.1f} in float32)",
    }
