"""Executes the notebooks and writes their outputs in place, stamped with what made them.

    python notebooks/run.py                 all of them, in a few minutes
    python notebooks/run.py 3 5             those whose names begin with 3 or 5

A solution is Python in a folded block of a markdown cell, and below it stands what it prints. It
runs in the notebook's kernel after the last cell, and its text is renewed, too.

The stamp in a notebook's metadata holds three hashes: of the scripts and data that notebooks use,
of the notebook's own cells, and of the tiny world's models. Before a release,
tests/test_notebooks.py compares the first two with the files, so run this after the last change to
a script or a cell.
"""

import copy
import hashlib
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import distributed  # noqa: E402
import tiny  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# What the cells import and read, beside the world.
USED = ("*.py", "neighbors/*.py", "results/*.py", "results/study/*.py", "notebooks/common.py",
        "notebooks/*.json", "configs/*.toml", "results/study/study.csv")

# A solution and what it prints, in a markdown cell.
SOLUTION = re.compile(r"```python\n(?P<code>.*?)```\n\n```text\n(?P<printed>.*?)```", re.DOTALL)


def digest(parts):
    """A hash of a list. Its repr, unlike a concatenation, says where one part ends."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def world_hash():
    """A hash of the models in runs/world-0, which is built if it is missing.

    Raises ValueError if other code has built it: the outputs would be older than the code.
    """
    folder = ROOT / "runs" / "world-0"
    manifest = tiny.ensure(folder)
    if manifest["code"] != tiny.code_version():
        raise ValueError(f"{folder} was built by another version of the code: delete it, and it is "
                         "rebuilt")
    return digest([(folder / model / "model.safetensors").read_bytes()
                   for model in ("policy", "reward_model")])


def files_used(root=ROOT):
    """The files of USED, sorted."""
    return sorted(path for pattern in USED for path in root.glob(pattern))


def stamp(notebook, root=ROOT):
    """The hashes of the code and the data that a notebook runs with. -> {"code", "cells"}"""
    code = [(path.relative_to(root).as_posix(), path.read_bytes())
            for path in files_used(root)]
    cells = [(cell.cell_type, with_printed(cell.source, "")) for cell in notebook.cells]
    return {"code": digest(code), "cells": digest(cells)}


def with_printed(source, printed):
    """A cell's source whose solution, if it has one, prints this text."""
    def replaced(match):
        return f"```python\n{match['code']}```\n\n```text\n{printed}```"

    return SOLUTION.sub(replaced, source)


def execute(notebook):
    """Runs all cells in a new kernel, from the notebooks' folder, and fills in their outputs.

    Then come the solutions, at most one in each markdown cell.
    """
    extended = copy.deepcopy(notebook)
    solved = []                                  # indices of the cells that have a solution
    for index, cell in enumerate(notebook.cells):
        match = SOLUTION.search(cell.source)
        if cell.cell_type == "markdown" and match:
            solved.append(index)
            extended.cells.append(nbformat.v4.new_code_cell(match["code"]))

    client = NotebookClient(extended, timeout=1200, kernel_name="python3", record_timing=False,
                            resources={"metadata": {"path": str(ROOT / "notebooks")}})
    client.execute()

    # The outputs go back: those of a cell to the cell, those of a solution into its block.
    count = len(notebook.cells)
    for cell, executed in zip(notebook.cells, extended.cells[:count], strict=True):
        if cell.cell_type == "code":
            cell.outputs = executed.outputs
            cell.execution_count = executed.execution_count
    for index, executed in zip(solved, extended.cells[count:], strict=True):
        printed = "".join(output.text for output in executed.outputs
                          if output.get("name") == "stdout")
        notebook.cells[index].source = with_printed(notebook.cells[index].source, printed)


def main():
    prefixes = tuple(sys.argv[1:])
    world = world_hash()
    for path in NOTEBOOKS:
        if prefixes and not path.name.startswith(prefixes):
            continue
        started = time.time()
        notebook = nbformat.read(path, as_version=4)
        made_with = stamp(notebook) | {"world": world}
        execute(notebook)
        notebook.metadata["made_with"] = made_with
        nbformat.write(notebook, path)
        print(f"{path.name}: {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    distributed.run(main)
