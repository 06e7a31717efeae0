"""``xxdeploy diagnose``: the scaling, resizing and order of classes that labeled pictures support."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from xxdeploy.cli.output import AsJson, plain, print_json, print_line, print_table
from xxdeploy.exporter.option_groups import NetworkOptions
from xxdeploy.exporter.options import ExportOptions, option_name
from xxdeploy.figures import percent

if TYPE_CHECKING:
    from xxdeploy.exporter.find_pipeline import ClassOrders
    from xxdeploy.verify.pipelines import Aspect, Diagnosis

EXAMPLE = """Examples:

  xxdeploy diagnose my_model.keras --eval val/
  xxdeploy diagnose my_model.keras --eval val/ --preprocess tf --labels labels.txt
  xxdeploy diagnose exports/my_model-int8 --eval val/"""

_NETWORK = Parameter(name="*", group=Group("Network", sort_key=1), name_transform=option_name, show_default=False)
_DEFAULT = NetworkOptions()
_TITLES = {
    "scaling": "scaling",
    "channels": "order of channels",
    "resample": "resampling",
    "resize": "geometry",
    "classes": "order of classes",
}


def command(
    model: str,
    /,
    *,
    evaluation: Annotated[Path | None, Parameter(name="--eval")] = None,
    as_json: AsJson = False,
    network: Annotated[NetworkOptions, _NETWORK] = _DEFAULT,
) -> None:
    """Find out from labeled pictures (at most 300) how pictures were prepared when the network was trained.

    Parameters
    ----------
    model
        A model file of your own (.keras, .h5), the folder of a bundle, or a name from `xxdeploy models`.
    evaluation
        Folder of labeled images: one subfolder a class, or a labels.csv.
    """
    from xxdeploy.cli.progress import ProgressView
    from xxdeploy.diagnose.pipeline import diagnose
    from xxdeploy.exporter.source import source_of

    options = ExportOptions(network=network).changed(evaluation=evaluation)
    with ProgressView(as_json=as_json) as progress:
        diagnosis, orders = diagnose(source_of(model), options, on_progress=progress)
    if as_json:
        print_json(_document(diagnosis, orders))
    else:
        _show(diagnosis, orders)


def _document(diagnosis: Diagnosis, orders: ClassOrders) -> dict[str, object]:
    from xxdeploy.exporter.find_pipeline import sentences
    from xxdeploy.verify.pipelines import options_of

    words = options_of(diagnosis.chosen, diagnosis.given, orders.options)
    return {**plain(diagnosis), "mends": diagnosis.mends, "options": words, "sentences": sentences(diagnosis, orders)}


def _show(diagnosis: Diagnosis, orders: ClassOrders) -> None:
    from xxdeploy.exporter.find_pipeline import sentences

    if diagnosis.supported:
        headings = ("", "as given", "best", "top-1", "cannot be told from it", "excluded")
        print_table(headings, [_row(aspect) for aspect in diagnosis.aspects], left=len(headings))
        print_line()
    for sentence in sentences(diagnosis, orders):
        print_line(sentence, hang=2)


def _row(aspect: Aspect) -> tuple[str, ...]:
    close, excluded = (
        _some([f"{rival.value} {percent(rival.top1)}" for rival in aspect.rivals if rival.excluded is wanted])
        for wanted in (False, True)
    )
    return _TITLES[aspect.name], aspect.given or "-", aspect.best, percent(aspect.top1), close, excluded


def _some(values: list[str], most: int = 3) -> str:
    more = [f"{len(values) - most} more"] if len(values) > most else []
    return ", ".join([*values[:most], *more]) or "-"
