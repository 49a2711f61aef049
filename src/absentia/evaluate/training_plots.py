"""The figures of a training: loss and validation score over steps, stage by stage, the reference beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from absentia.evaluate.curves import Curve, Curves
from absentia.evaluate.plots import score_axis
from absentia.evaluate.svg import COLOURS
from absentia.evaluate.wording import short

__all__ = ["draw_loss", "draw_validation"]

NAMED_STAGES = 5
MARKED_POINTS = 40
PARTS = (("third", "--"), ("fourth", "-."), ("soft", ":"))
OTHER: dict[str, Any] = {"color": COLOURS["reference"], "linestyle": (0, (4, 2)), "linewidth": 1.4}


def draw_loss(axes: Axes, training: Curves, reference: Curves, report: Mapping[str, Any]) -> None:
    """The loss over steps, its parts where it is a sum of several, and the reference's."""
    for (name, part), (colour, dashes) in zip(training.parts.items(), PARTS, strict=False):
        look = {"color": COLOURS[colour], "linestyle": dashes, "linewidth": 1.2, "label": short(name, 18)}
        _line(axes, part, training, **look)
    _line(axes, reference.loss, reference, label=short(report.get("reference_method"), 18), **OTHER)
    name = short(report["method"], 18)
    _line(axes, training.loss, training, color=COLOURS["method"], linewidth=1.8, label=name)
    if len(training.loss) and 0 < 30 * training.loss.y.min() < training.loss.y.max():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))  # texts stay texts in the page
    axes.set_ylabel("loss")
    _finish(axes, training, reference, place="upper right")


def draw_validation(axes: Axes, training: Curves, reference: Curves, report: Mapping[str, Any]) -> None:
    """The score on validation rows: the mean over patterns as a line, from the worst to the best as a band."""
    worst, best = training.worst.broken(training.starts), training.best.broken(training.starts)
    axes.fill_between(worst.x, worst.y, best.y, color=COLOURS["method"], alpha=0.16, linewidth=0)
    _line(axes, reference.score, reference, label=short(report.get("reference_method"), 18), **OTHER)
    marker = "o" if len(training.score) < MARKED_POINTS else ""
    look = {"color": COLOURS["method"], "linewidth": 1.8, "marker": marker, "markersize": 4}
    _line(axes, training.score, training, label=short(report["method"], 18), **look)
    score_axis(axes, report, [*training.best.y, *training.score.y, *reference.score.y])
    _finish(axes, training, reference, place="lower right" if report["higher_is_better"] else "upper right")


def _line(axes: Axes, curve: Curve, of: Curves, **look: Any) -> None:
    if not len(curve):
        return
    if len(curve) == 1:
        look["marker"] = "o"
    broken = curve.broken(of.starts)
    axes.plot(broken.x, broken.y, **look)


def _finish(axes: Axes, training: Curves, reference: Curves, *, place: Any) -> None:
    axes.set_xlabel("step")
    axes.set_xlim(0, max(training.last_step, reference.last_step) * 1.02 or 1)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if len(axes.get_legend_handles_labels()[0]) > 1:
        axes.legend(loc=place, handletextpad=0.5)
    for start in training.starts[1:]:
        axes.axvline(start, color=COLOURS["soft"], linewidth=0.8, linestyle=(0, (1, 2)))
    if 1 < len(training.stages) <= NAMED_STAGES:
        for name, start in training.stages:
            across = axes.get_xaxis_transform()
            axes.text(start, 1.02, short(name, 14), transform=across, fontsize=10, color=COLOURS["soft"])
