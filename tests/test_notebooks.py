"""The notebooks: their form, that they still run, and that their outputs are up to date.

Without a mark: what holds after an edit of any script. `notebooks`: executes all five.
`release`: the committed outputs were made by the code and the cells beside them. Together,
`pytest -m "notebooks or release"`, they execute each notebook once.
"""

import ast
import re
import shutil

import nbformat
import pytest
from helpers import ROOT

import tiny
from notebooks.run import NOTEBOOKS, execute, stamp, world_hash

AGAIN = "run `python notebooks/run.py` and commit what it writes"
EXECUTED = {}                        # path: the notebook, for those that this session has executed


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook, tag=None):
    """The code cells, or those that have the tag."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if tag is None or tag in cell.metadata.get("tags", [])]


def markdown_of(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def python_of(cell):
    """A cell's source without the lines that only IPython reads."""
    return re.sub(r"^[%!].*$", "pass", cell.source, flags=re.M)


def text_of(cell):
    """What a cell has printed and shown as text, without figures and warnings."""
    texts = []
    for output in cell.outputs:
        if output.get("name") != "stderr":
            texts.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "".join(texts)


# ---------------------------------------------------------------------------- form


def test_there_are_five():
    assert [path.name for path in NOTEBOOKS] == [
        "1_verifier_and_reward_model.ipynb", "2_hero_reward.ipynb", "3_grpo_by_hand.ipynb",
        "4_a_training_run.ipynb", "5_to_eight_gpus.ipynb"]


def test_cells_are_short(notebook):
    for cell in code_cells(notebook):
        lines = cell.source.splitlines()
        assert len(lines) <= 15, cell.source
        assert max(map(len, lines)) <= 100, cell.source


def test_cells_redefine_nothing_of_the_scripts(notebook):
    """A function that a script has is imported, so that a notebook cannot diverge from the code."""
    taken = set()
    for script in ROOT.glob("*.py"):
        for node in ast.parse(script.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                taken.add(node.name)
    assert len(taken) > 100

    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(python_of(cell))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.name not in taken, cell.source
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
                names = {target.id for target in node.targets if isinstance(target, ast.Name)}
                assert not names & taken, cell.source


def test_equations_and_exercises(notebook):
    words = markdown_of(notebook)
    assert words.count("$$") >= 4
    assert words.count("<details>") == words.count("</details>") >= 3
    assert re.findall(r"^### Exercise (\d)$", words, re.M) == ["1", "2", "3"]
    assert re.findall(r"^### Solution (\d)$", words, re.M) == ["1", "2", "3"]
    for number in "123":
        assert f"([solution](#Solution-{number}))" in words


def test_solutions_are_at_the_end_and_check_themselves(notebook):
    """Nobody sees a solution by scrolling to its exercise, in whatever program shows the cells."""
    headings = [i for i, cell in enumerate(notebook.cells)
                if cell.cell_type == "markdown" and cell.source.startswith("## Solutions")]
    assert len(headings) == 1
    after = code_cells(nbformat.v4.new_notebook(cells=notebook.cells[headings[0]:]))
    assert len(after) == 3
    assert after == code_cells(notebook, "solution")
    for cell in after:
        assert re.search(r"^assert ", cell.source, re.M)


def test_the_same_group_is_sampled_everywhere(notebook):
    first = nbformat.read(NOTEBOOKS[0], as_version=4)
    sources = [cell.source for cell in code_cells(notebook, "group")]
    assert len(sources) == 1
    assert sources == [cell.source for cell in code_cells(first, "group")]


def test_the_stamp_sees_one_letter(tmp_path):
    for script in [*ROOT.glob("*.py"), ROOT / "notebooks" / "common.py"]:
        copy = tmp_path / script.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(script, copy)
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    before = stamp(notebook, tmp_path)
    assert before == stamp(notebook)

    for name in ("rewards.py", "notebooks/common.py"):
        code = (tmp_path / name).read_text()
        (tmp_path / name).write_text(code + "#")
        assert stamp(notebook, tmp_path)["code"] != before["code"]
        (tmp_path / name).write_text(code)
    notebook.cells[-1].source += " "
    assert stamp(notebook, tmp_path)["cells"] != before["cells"]


# ---------------------------------------------------------------------------- the committed outputs


@pytest.mark.release
def test_outputs_were_made_by_this_code(notebook):
    made_with = {key: notebook.metadata.made_with[key] for key in ("code", "cells")}
    assert made_with == stamp(notebook), f"the outputs are older than the code: {AGAIN}"


@pytest.mark.release
def test_outputs_were_made_in_one_world():
    worlds = {nbformat.read(path, as_version=4).metadata.made_with.world for path in NOTEBOOKS}
    assert len(worlds) == 1, f"the notebooks' worlds differ: {AGAIN}"


@pytest.mark.release
def test_all_cells_ran_once_in_order_without_error(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), AGAIN
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text


@pytest.mark.release
def test_figures_are_shown_and_files_are_small(path, notebook):
    figures = 0
    for cell in code_cells(notebook):
        figures += sum("image/png" in output.get("data", {}) for output in cell.outputs)
    assert figures >= 2
    assert path.stat().st_size < 400_000


@pytest.mark.release
def test_the_same_group_travels(notebook):
    """All five show the same eight responses."""
    first = nbformat.read(NOTEBOOKS[0], as_version=4)
    shown = text_of(code_cells(notebook, "group")[0])
    assert shown.count("\\boxed{") == 8
    assert shown == text_of(code_cells(first, "group")[0])


# ---------------------------------------------------------------------------- they run


@pytest.fixture
def executed(path):
    """A notebook after its cells have run in this session, once for all tests.

    The world is built before, so that a notebook's first cell does not say that it builds it.
    """
    if path not in EXECUTED:
        tiny.ensure(ROOT / "runs" / "world-0")
        notebook = nbformat.read(path, as_version=4)
        execute(notebook)
        EXECUTED[path] = notebook
    return EXECUTED[path]


@pytest.mark.notebooks
def test_executes(executed):
    """All cells run, solutions too, whatever world this machine makes."""
    assert code_cells(executed)[-1].execution_count == len(code_cells(executed))


@pytest.mark.release
def test_outputs_are_the_committed_ones(notebook, executed):
    """To the letter, where this machine makes the same world to the last bit."""
    if notebook.metadata.made_with.world != world_hash():
        pytest.skip("the committed outputs are of another tiny world than this machine's")
    for committed, cell in zip(code_cells(notebook), code_cells(executed), strict=True):
        assert text_of(cell) == text_of(committed), cell.source
