"""Continual learning with absent modalities: methods side by side on streams, through the command line alone.

    python benchmarks/continual.py --tables glyphs-cmml --rows rebq finetune
    python benchmarks/continual.py --tables fashion leaves100 --data FOLDER --encoder image=FOLDER text=FOLDER
    python benchmarks/continual.py --smoke

For every table a backbone is pretrained once, without labels, on classes that no session has (`absentia pretrain`);
every method starts from it, with the same number of steps. Seven of ten rows of every split are incomplete, proper
patterns drawn evenly, with a new draw of masks and weights for each seed. Test rows are scored after every session
and chose nothing.

How to read it: `average_last` is the mean accuracy over all sessions' test rows after the last session,
`forgetting_first` what a session lost since it was new; means and standard deviations over the seeds. `share` is
the size of what a session keeps, in bytes. `joint` saw all rows of all sessions at once: the upper bound.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from _results import RESULTS, record, write
from _streams import STREAMS, prepared_streams
from _tables import data_folder, encoder_folders

INCOMPLETE = "0.7"
FIGURES = ("average_last", "average_stages", "forgetting_first", "forgetting_max", "last")
FROZEN = ["--model.freeze", "true"]
Row = dict[str, Any]

# What each row of the table is called, and the flags that make it.
ROWS: dict[str, list[str]] = {
    "rebq": ["--method", "rebq", *FROZEN],
    "rebq released": ["--method", "rebq", "--options.variant", "released", *FROZEN],
    "rebq prompts off": ["--method", "rebq", "--options.prompts", "false", *FROZEN],
    "finetune": ["--method", "finetune"],
    "finetune session": ["--method", "finetune", "--options.among", "session"],
    "probe": ["--method", "probe", *FROZEN],
    "prototypes": ["--method", "prototypes", *FROZEN],
    "ridge": ["--method", "prototypes", "--options.head", "ridge", *FROZEN],
    "replay": ["--method", "replay"],
    "ewc": ["--method", "ewc"],
    "lwf": ["--method", "lwf"],
    "l2p": ["--method", "l2p", *FROZEN],
    "dualprompt": ["--method", "dualprompt", *FROZEN],
    "coda": ["--method", "coda", *FROZEN],
    "missing-aware": ["--method", "missing-aware", *FROZEN],
    "joint": ["--method", "joint"],
}

# Parts of RebQ switched on or off, each beside `rebq` as it is.
ABLATIONS: dict[str, list[str]] = {
    "rebq first": ["--options.reads", "first"],
    "rebq several": ["--options.several", "true"],
    "rebq orthogonal": ["--options.orthogonal", "0.1"],
    "rebq softmax": ["--options.selection", "softmax"],
    "rebq top": ["--options.selection", "top"],
    "rebq placeholder": ["--options.absent", "placeholder"],
}
ROWS |= {name: [*ROWS["rebq"], *flags] for name, flags in ABLATIONS.items()}


def main() -> None:
    """Backbones and streams first, then every training that was asked for, and their means."""
    asked = _asked()
    jobs = [(t, r, s) for t in asked.tables for s in range(asked.seeds) for r in asked.rows]
    encoders = encoder_folders(asked.encoder, data_folder(asked.data))
    asked.work.mkdir(parents=True, exist_ok=True)
    streams = {t: prepared_streams(t, asked.work, data_folder(asked.data)) for t in asked.tables}
    backbones = {t: _pretrained(t, streams[t], asked, encoders) for t in asked.tables}
    with ThreadPoolExecutor(asked.workers) as pool:
        rows = list(pool.map(lambda job: _learned(*job, asked, streams[job[0]], backbones[job[0]]), jobs))
    summary = [_over_seeds(t, r, rows) for t in asked.tables for r in asked.rows]
    path = write(f"continual-{asked.name}", rows + summary, range(asked.seeds), asked.out)
    for line in summary:
        print(_said(line))
    if asked.record:
        for table in asked.tables:
            figures = [_said(line) for line in summary if line["table"] == table]
            record(f"continual learning on {table}, 70 % of rows incomplete", figures, range(asked.seeds), path)
