"""``xxdeploy build``: build a TensorRT engine from a bundle, on the target device or for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from xxdeploy.cli.output import AsJson, BundlePath, MinVersion, PublicKey, print_facts, print_json
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.engine import EngineOptions
    from xxdeploy.exporter.trt_engine import BuiltEngine

EXAMPLE = """Examples:

  xxdeploy build exports/mobilenetv2-int8-tensorrt
  xxdeploy build exports/mobilenetv2-int8-tensorrt --target tensorrt-rtx --gpu sm86,sm89 --batch 1,4,16"""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """The engine to build.

    Parameters
    ----------
    target
        The library. TensorRT for RTX also builds without a GPU. Experimental: never run on a card.
    gpu
        Compute capabilities to build for (tensorrt-rtx): sm75, sm80, sm86, sm89, sm120, sm121. Default: the local GPU.
    batch
        Smallest, usual and largest batch.
    workspace
        Scratch memory of the builder, MiB.
    any_version
        Build an engine that later versions of the library can load.
    any_gpu
        Build an engine for each GPU since Ampere, somewhat slower (tensorrt).
    strip
        Leave the weights out of the engine.
    refit
        Build an engine whose weights can be replaced.
    """

    target: Literal["tensorrt", "tensorrt-rtx"] = "tensorrt-rtx"
    gpu: str = ""
    batch: str = "1,1,8"
    workspace: int | None = None
    any_version: bool = False
    any_gpu: bool = False
    strip: bool = False
    refit: bool = False

    def options(self) -> EngineOptions:
        """Return the options of the builder. ``UsageError``: those of ``EngineOptions`` and ``parse_batch``."""
        from xxdeploy.engine import EngineOptions, parse_batch, parse_gpus

        return EngineOptions(
            target=self.target,
            gpus=parse_gpus(self.gpu),
            batch=parse_batch(self.batch),
            workspace=None if self.workspace is None else self.workspace << 20,
            any_version=self.any_version,
            any_gpu=self.any_gpu,
            strip=self.strip,
            refit=self.refit,
        )


_DEFAULT = EngineRequest()


def command(
    bundle: BundlePath,
    /,
    *,
    engine: Annotated[EngineRequest, Parameter(name="*")] = _DEFAULT,
    variant: str | None = None,
    out: Path | None = None,
    force: bool = False,
    key: PublicKey = None,
    min_version: MinVersion = 0,
    as_json: AsJson = False,
) -> None:
    """Build an engine from a bundle's ONNX model, verify its precision, and write it.

    Parameters
    ----------
    variant
        Name of the bundle's variant to build. Default: the best one that TensorRT runs in its precision.
    out
        Folder for the engine. Default: the bundle's folder with `-engine` added to its name.
    force
        Replace an existing engine.
    """
    with extra("export"):
        from xxdeploy.cli.progress import ProgressView
        from xxdeploy.exporter.trt_engine import build_from_bundle
    # resolve(): "." and "folder/" have no name of their own
    folder = bundle.resolve().with_name(f"{bundle.resolve().name}-engine") if out is None else out
    options = engine.options()
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
    gpus = ", ".join(engine.options.gpus) or "this machine's GPU"
    batch = engine.options.batch
    return {
        "engine": str(built.folder),
        "from": f"variant {built.variant}, SHA-256 {engine.model_digest[:12]}",
        "for": f"{engine.options.target} {engine.version} on {gpus}, batches of {batch.min} to {batch.max}",
        "precision": f"{shares} of {facts['macs'] / 1e6:.0f} million multiplications, read from {depth}",
        "size": f"{engine.size / 1e6:.1f} MB, including {facts['weight_bytes'] / 1e6:.1f} MB of weights "
        f"({facts['float_weight_bytes'] / 1e6:.1f} MB in float32)",
    }
