"""The published systems, one file each. A new method is a file here and a line in `METHODS`."""

from __future__ import annotations

from absentia.errors import UserError, nearest
from absentia.methods.base import Method, Output, Parts, Stage
from absentia.methods.coda import CODA
from absentia.methods.dedicated import Dedicated
from absentia.methods.dropout import Dropout
from absentia.methods.dualprompt import DualPrompt
from absentia.methods.ewc import EWC
from absentia.methods.finetune import Finetune
from absentia.methods.ignore import Ignore
from absentia.methods.joint import Joint
from absentia.methods.joint_embedding import JointEmbedding
from absentia.methods.l2p import L2P
from absentia.methods.lwf import LwF
from absentia.methods.missing_aware import MissingAware
from absentia.methods.modulation import Modulation
from absentia.methods.probe import Probe
from absentia.methods.prototypes import Prototypes
from absentia.methods.rebq import RebQ
from absentia.methods.replay import Replay
from absentia.methods.single_branch import SingleBranch
from absentia.methods.universal import Universal

__all__ = ["METHODS", "Method", "Output", "Parts", "Stage", "method_named"]

METHODS: dict[str, type[Method]] = {
    m.name: m
    for m in (
        Ignore,
        Dropout,
        Dedicated,
        Finetune,
        Probe,
        Prototypes,
        Replay,
        Joint,
        EWC,
        LwF,
        MissingAware,
        Modulation,
        L2P,
        DualPrompt,
        CODA,
        RebQ,
        JointEmbedding,
        SingleBranch,
        Universal,
    )
}


def method_named(name: str) -> type[Method]:
    """The method called `name`; raises `UserError` with the nearest one."""
    if name not in METHODS:
        raise UserError(f"unknown method {name!r}; {nearest(name, METHODS)}")
    return METHODS[name]
