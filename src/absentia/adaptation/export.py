"""One pattern of an adapted network as an ONNX file that takes what is present and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from absentia.adaptation.calls import Slot
from absentia.adaptation.merge import merged
from absentia.adaptation.presence import parsed
from absentia.errors import UserError

if TYPE_CHECKING:
    from absentia.adaptation.network import Adapted

__all__ = ["export_onnx"]


class _Shown(nn.Module):
    """A merged network behind the inputs that are present; the fillers of the others are constants inside."""

    def __init__(self, net: Adapted, plain: nn.Module, given: list[Slot], rows: dict[Slot, Tensor]) -> None:
        super().__init__()
        self.plain, self.signature, self.given = plain, net.plan.signature, given
        self.absent = list(rows)
        for number, row in enumerate(rows.values()):
            self.register_buffer(f"row{number}", row)

    def forward(self, *values: Tensor) -> Any:
        """The present inputs in order."""
        arguments: dict[str, Any] = {}
        for slot, value in zip(self.given, values, strict=True):
            slot.write(arguments, value)
        for number, slot in enumerate(self.absent):
            row = getattr(self, f"row{number}")
            slot.write(arguments, row.expand(values[0].shape[0], *row.shape))
        ordered = {name: arguments[name] for name in self.signature.kinds if name in arguments}
        return self.signature.call(self.plain, ordered | arguments)


def export_onnx(net: Adapted, path: str | Path, pattern: str | Collection[str], example: Any) -> Path:
    """Write one pattern's merged network; the batch may have any size.

    example: arguments of one call, by name; those of absent modalities are not needed. Inputs of the file have the
    names of the network's arguments. Raises `UserError` where onnx is not installed, where a filler hands the network
    None, and for a modality that is some channels of an argument.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError("exporting needs onnx and onnxscript: pip install 'absentia[export]'") from None
    out = Path(path)
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {str(out.parent)!r}")
    if not isinstance(example, Mapping):
        raise UserError(
            f"export: expected the example as a mapping of arguments by name, not a {type(example).__name__}"
        )
    shown = dict(zip(net.names, parsed(pattern, net.names), strict=True))
    slots = {name: net.plan.signature.slots[name] for name in net.names}
    if any(slot.channels for some in slots.values() for slot in some):
        raise UserError("export: a modality is some channels of an argument; export net.merge(pattern) yourself")
    given = [slot for name in net.names if shown[name] for slot in slots[name]]
    rows = {
        slot: net.fillers.row(slot, None, torch.device("cpu")).detach()
        for name in net.names
        if not shown[name] and not net.fillers.skips(slots[name])
        for slot in slots[name]
    }
    values = tuple(slot.read(example) for slot in given)
    if any(value is None for value in values):
        raise UserError("export: the example lacks a modality that the pattern has")
    module = _Shown(net, merged(net, pattern).cpu(), given, rows).eval()
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        torch.onnx.export(
            module,
            values,
            str(out),
            input_names=[_word(slot) for slot in given],
            dynamic_shapes=(tuple({0: batch} for _ in given),),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return out


def _word(slot: Slot) -> str:
    return slot.argument if slot.key is None else f"{slot.argument}_{slot.key}"
