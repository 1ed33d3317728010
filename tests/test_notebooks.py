"""The notebooks: that they still run, and that their outputs are up to date.

Without a mark: what holds after an edit of any script. `notebooks`: executes them all.
`release`: the committed outputs were made by the code and the cells beside them. Together,
`pytest -m "notebooks or release"`, they execute each notebook once.
"""

import shutil

import nbformat
import pytest
from helpers import ROOT

import tiny
from notebooks import common
from notebooks.run import NOTEBOOKS, execute, files_used, stamp, with_printed, world_hash
from verify import verify_all

AGAIN = "run `python notebooks/run.py` and commit what it writes"
EXECUTED = {}                        # path: the notebook, for those that this session has executed


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(cell):
    """What a cell has printed and shown as text, without figures and warnings."""
    texts = []
    for output in cell.outputs:
        if output.get("name") != "stderr":
            texts.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "".join(texts)


# ---------------------------------------------------------------------------- stamps, data


def test_what_a_solution_prints_can_be_renewed():
    source = "a\n```python\nprint(1)\n```\n\n```text\n0\n```\nb"
    assert with_printed(source, "1\n") == source.replace("0", "1")
    assert with_printed("no solution", "1\n") == "no solution"


def test_the_stored_group_is_what_the_text_says():
    """Four are right; accepted are one product and one sum; a wrong one has the best score."""
    group = common.start()
    batch = group.batch
    assert verify_all(group.texts, [group.answer] * 8) == group.verdicts
    assert batch.verified[0].tolist() == [float(v.correct) for v in group.verdicts]
    assert batch.truth[0].tolist() == [float(v.answer in group.accepted) for v in group.verdicts]
    assert batch.truth.sum() == 4
    accepted = [text[:3] for text, v in zip(group.texts, group.verdicts, strict=True) if v.correct]
    assert accepted == ["2*3", "2+3"]
    assert batch.truth[0, batch.rm_scores.argmax()] == 0

    # The token ids are those of the tokenizer that the world would have now.
    tokenizer = tiny.make_tokenizer()
    for text, rollout in zip(group.texts, group.rollouts, strict=True):
        assert tokenizer(text)["input_ids"] == rollout.response_ids[:-1]
        assert len(rollout.logprobs) == len(rollout.response_ids)
        assert max(rollout.logprobs) <= 0
    assert "".join(common.read_changes()["tokens"]) == group.texts[2]


@pytest.mark.parametrize("kind", ["easy", "hard"])
def test_the_stored_cold_start(kind):
    batch = common.read_cold_start(kind)
    assert batch.rm_scores.shape == batch.verified.shape == batch.truth.shape == (150, 8)
    assert (batch.verified <= batch.truth).all()      # the verifier accepts nothing that is wrong
    recall = batch.verified.sum() / batch.truth.sum()
    assert recall == 1 if kind == "easy" else recall < 0.15


def test_the_stamp_sees_one_letter(tmp_path):
    for file in files_used():
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    before = stamp(notebook, tmp_path)
    assert before == stamp(notebook)

    for name in ("rewards.py", "notebooks/common.py", "neighbors/neighbors.py",
                 "results/study/tables.py", "results/study/study.csv", "configs/qwen3-4b.toml"):
        code = (tmp_path / name).read_text()
        (tmp_path / name).write_text(code + "#")
        assert stamp(notebook, tmp_path)["code"] != before["code"]
        (tmp_path / name).write_text(code)
    notebook.cells[-1].source += " "
    assert stamp(notebook, tmp_path)["cells"] != before["cells"]

    # What a solution prints is an output and no part of the stamp.
    after = stamp(notebook)
    for cell in notebook.cells:
        cell.source = with_printed(cell.source, "something else")
    assert stamp(notebook) == after


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
    for committed, cell in zip(notebook.cells, executed.cells, strict=True):
        assert cell.source == committed.source          # with what the solutions print
