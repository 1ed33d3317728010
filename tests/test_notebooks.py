"""The notebooks: outputs made by the code beside them, their form, and that they still run."""

import ast
import re
import shutil
import time

import nbformat
import pytest
from helpers import ROOT

from notebooks.run import NOTEBOOKS, execute, stamp, world_hash

AGAIN = "run `python -m notebooks.run` and commit what it writes"
SECONDS = {}                         # of each notebook that this session has executed


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, 4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def python(cell):
    """A cell's source without the lines that only IPython reads."""
    return re.sub(r"^[%!].*$", "pass", cell.source, flags=re.M)


def text_of(cell):
    """What a cell has printed and shown as text; figures and warnings are left out."""
    return "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "")
                   for output in cell.outputs if output.get("name") != "stderr")


def test_there_are_five():
    assert [path.name for path in NOTEBOOKS] == [
        "1_verifier_and_reward_model.ipynb", "2_hero_reward.ipynb", "3_grpo_by_hand.ipynb",
        "4_a_training_run.ipynb", "5_to_eight_gpus.ipynb"]


# ---------------------------------------------------------------------------- no old output


def test_outputs_were_made_by_this_code(notebook):
    made_with = {key: notebook.metadata.made_with[key] for key in ("code", "cells")}
    assert made_with == stamp(notebook), f"the outputs are older than the code: {AGAIN}"


def test_all_cells_ran_once_in_order_without_error(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), AGAIN
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]


def test_the_stamp_sees_one_letter(tmp_path):
    for script in ROOT.glob("*.py"):
        shutil.copy(script, tmp_path)
    notebook = nbformat.read(NOTEBOOKS[0], 4)
    before = stamp(notebook, tmp_path)
    assert before == stamp(notebook)
    rewards = (tmp_path / "rewards.py").read_text()
    (tmp_path / "rewards.py").write_text(rewards.replace("2 * alpha * place", "3 * alpha * place"))
    notebook.cells[-1].source += " "
    after = stamp(notebook, tmp_path)
    assert after["code"] != before["code"] and after["cells"] != before["cells"]


# ---------------------------------------------------------------------------- form


def test_cells_are_short_and_redefine_nothing(notebook):
    taken = {node.name for script in ROOT.glob("*.py") for node in ast.parse(
        script.read_text()).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert len(taken) > 100
    for cell in code_cells(notebook):
        assert len(cell.source.splitlines()) <= 15, cell.source
        assert max(map(len, cell.source.splitlines())) <= 100, cell.source
        nodes = list(ast.walk(ast.parse(python(cell))))
        defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        defined |= {target.id for node in nodes if isinstance(node, ast.Assign)
                    and isinstance(node.value, ast.Lambda)
                    for target in node.targets if isinstance(target, ast.Name)}
        assert not defined & taken, cell.source


def test_equations_figures_exercises_and_solutions(path, notebook):
    words = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    assert words.count("$$") >= 4 and "<details>" in words
    assert len(re.findall(r"^### Exercise [123]\b", words, re.M)) == 3
    figures = [o for cell in code_cells(notebook) for o in cell.outputs
               if "image/png" in o.get("data", {})]
    assert len(figures) >= 2
    solutions = [c for c in code_cells(notebook) if "solution" in c.metadata.get("tags", [])]
    assert len(solutions) == 3
    for cell in solutions:
        assert cell.metadata.jupyter == {"source_hidden": True, "outputs_hidden": True}
        assert re.search(r"^assert ", cell.source, re.M)
    assert path.stat().st_size < 400_000


def test_the_same_group_travels(notebook):
    """The lines that sample it are the same everywhere, and so are its eight responses."""
    first = nbformat.read(NOTEBOOKS[0], 4)
    cells = [[c for c in code_cells(n) if "group" in c.metadata.get("tags", [])]
             for n in (first, notebook)]
    assert [len(found) for found in cells] == [1, 1]
    assert cells[0][0].source == cells[1][0].source
    assert text_of(cells[0][0]) == text_of(cells[1][0]) and "\\boxed{" in text_of(cells[0][0])


# ---------------------------------------------------------------------------- they run


@pytest.fixture(scope="module")
def world():
    return world_hash()


@pytest.mark.notebooks
def test_executes(path, notebook, world):
    """Solutions too. Text is compared where this machine makes the same world to the last bit."""
    committed = [text_of(cell) for cell in code_cells(notebook)]
    started = time.time()
    execute(notebook)
    SECONDS[path.stem] = time.time() - started
    if notebook.metadata.made_with.world == world:
        for cell, before in zip(code_cells(notebook), committed, strict=True):
            if "timing" not in cell.metadata.get("tags", []):
                assert text_of(cell) == before, cell.source


@pytest.mark.notebooks
def test_they_take_less_than_eight_minutes_together():
    if len(SECONDS) < len(NOTEBOOKS):
        pytest.skip("not all notebooks were executed in this session")
    assert sum(SECONDS.values()) < 480, SECONDS
