"""Executes the notebooks and writes their outputs in place, stamped with what made them.

    python -m notebooks.run                 all five, in about three minutes
    python -m notebooks.run 3 5             those whose names begin so

The stamp in a notebook's metadata holds three hashes: of the top-level scripts, of the notebook's
own cells, and of the tiny world's models. tests/test_notebooks.py fails when one of the first two
is not that of the files beside it. Change a script or a cell, and run this before you commit.
"""

import hashlib
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

import distributed
import tiny

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def digest(*parts):
    """A hash of byte strings and of where one ends and the next begins."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def world_hash():
    """A hash of the models in runs/world-0, which is built if it is missing.

    Raises ValueError if other code has built it: outputs would then be older than the code.
    """
    folder = ROOT / "runs" / "world-0"
    if tiny.ensure(folder)["code"] != tiny.code_version():
        raise ValueError(f"{folder} was built by other code: delete it, and it is built anew")
    return digest(*((folder / model / "model.safetensors").read_bytes()
                    for model in ("policy", "reward_model")))


def stamp(notebook, root=ROOT):
    """The hashes of the code that a notebook runs with. -> {"code", "cells"}"""
    scripts = sorted(root.glob("*.py"))
    return {"code": digest(*((path.name, path.read_bytes()) for path in scripts)),
            "cells": digest(*((cell.cell_type, cell.source) for cell in notebook.cells))}


def execute(notebook):
    """Runs all cells in a new kernel, from the notebooks' folder; fills in their outputs."""
    NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False,
                   resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()


def main():
    made_with = {"world": world_hash()}
    for path in NOTEBOOKS:
        if not path.name.startswith(tuple(sys.argv[1:]) or ""):
            continue
        started, notebook = time.time(), nbformat.read(path, 4)
        made_with |= stamp(notebook)
        execute(notebook)
        notebook.metadata["made_with"] = made_with
        nbformat.write(notebook, path)
        print(f"{path.name}: {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    distributed.run(main)
