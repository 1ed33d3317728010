"""The page of a run in a real browser, without a window: what a model wrote stays text.

Skipped where there is no Chromium; `apt-get install chromium` brings it.
"""

import html
import json
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from test_page import page_folder, rollout

import page
from problems import write_jsonl

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)
pytestmark = pytest.mark.skipif(CHROMIUM is None,
                                reason="there is no Chromium: apt-get install chromium")

# Follows the page's script: what ACTIONS have pushed to `seen` becomes the last text of the page.
READ = """
const seen = [];
const all = (selector) => [...document.querySelectorAll(selector)];
const texts = (selector) => all(selector).map((element) => element.textContent);
ACTIONS
document.body.append(make("output", { id: "seen" }, JSON.stringify(seen)));
"""


@pytest.fixture
def browse(tmp_path, monkeypatch):
    """A function that shows the page of one run or two, and does something there.

    (folders, actions, *changes) -> (what the actions have seen, the HTML of the page at the end)
    actions: JavaScript, see READ. changes: pairs (a text of the template, its replacement).
    """
    def show(folders, actions, *changes):
        template = page.TEMPLATE.read_text()
        reading = ("\ndrawPage();\n", "\ndrawPage();\n" + READ.replace("ACTIONS", actions))
        for old, new in (*changes, reading):
            assert template.count(old) == 1, old
            template = template.replace(old, new)
        (tmp_path / "template.html").write_text(template)
        monkeypatch.setattr(page, "TEMPLATE", tmp_path / "template.html")
        path = page.write_page(*folders)

        # Without its sandbox, which root and many containers do not have; the texts are our own.
        options = ["--headless=new", "--disable-gpu", "--no-sandbox", "--no-first-run",
                   f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000"]
        result = subprocess.run([CHROMIUM, *options, "--dump-dom", path.as_uri()],
                                capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        seen = re.search('<output id="seen">(.*?)</output>', result.stdout, re.DOTALL)
        return json.loads(html.unescape(seen[1])), result.stdout
    return show


# ---------------------------------------------------------------------------- hostile texts

# {url}: a server of the test, which nothing may ask for anything.
HOSTILE = [
    "</script><script>document.title = 'hacked'</script>",
    "</SCRIPT ><img src=x onerror=\"document.title = 'hacked'\">",
    "<!--<script>",
    "<img src={url}/image onerror=\"document.title = 'hacked'\">",
    "<svg/onload=\"document.title='hacked'\"><style>* { display: none }</style>",
    "<iframe src=\"javascript:parent.document.title='hacked'\"></iframe>",
    "<script src={url}/script></script><b>bold</b>",
    "<link rel=stylesheet href={url}/style>",
    "]]>\"'`${document.title='hacked'} \\u003cb> &lt;b&gt; &amp; @DATA@ @SCRIPT_HASH@",
    "line\nbreaks\tand \u2028 \u2029 \u202e \x01 \U0001f600",
    "an <a href=\"javascript:document.title='hacked'\">innocent link</a>",
]
# It would lead away from the page, which no policy forbids.
REFRESH = "<meta http-equiv=refresh content='0;url={url}/away'>"

# The elements that the page's own script makes.
MADE = {"h3", "span", "label", "article", "svg", "path", "line", "text", "circle",
        "table", "caption", "thead", "tbody", "tr", "th", "td"}

LOOK_FOR_MARKUP = """
seen.push(texts(".model"), all("*").map((element) => element.localName),
          all("*").flatMap((element) => element.getAttributeNames()));
"""

# Changes to the template, each of which takes one of its two walls down.
WITH_MARKUP = ("element.append(...children);",
               "element.append(...children); if (attributes.class === 'model') "
               "element.innerHTML = children[0];")
WITHOUT_POLICY = ("default-src 'none'; script-src '@SCRIPT_HASH@'; style-src 'unsafe-inline'",
                  "style-src * 'unsafe-inline'")


@pytest.fixture
def server():
    """(address, the paths it was asked for) of a web server on this machine."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    web = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}", asked
    web.shutdown()


def hostile_folder(tmp_path, texts):
    """A run whose every text is hostile. All its groups are of one step: all are shown."""
    folder = page_folder(tmp_path, "a", steps=1, rollouts_per_prompt=1, name=texts[0],
                         policy=texts[1], reward_model=texts[3])
    write_jsonl(folder / "rollouts.jsonl", [
        rollout(1, problem=text, reference=text, response=text, answer=text, reason=text)
        for text in texts])
    return folder


def test_hostile_texts_stay_texts(tmp_path, server, browse):
    url, asked = server
    hostile = [text.replace("{url}", url) for text in (*HOSTILE, REFRESH)]
    (texts, tags, attributes), source = browse([hostile_folder(tmp_path, hostile)], LOOK_FOR_MARKUP)

    # Every text is there four times, as it was written: as problem, reference, response, answer.
    for text in hostile:
        assert texts.count(text) >= 4, text

    # None of them has become an element or a handler, has run, or has fetched anything.
    own = re.findall(r"<(\w+)", page.TEMPLATE.read_text())
    assert set(tags) <= set(own) | MADE
    for tag in ("script", "style", "meta", "a"):
        assert tags.count(tag) == own.count(tag) > 0
    assert not [name for name in attributes if name.startswith("on")]
    assert "<title>hacked" not in source
    assert asked == []


@pytest.mark.parametrize("walls_down, runs", [
    ([WITH_MARKUP], False),                       # the policy alone lets nothing run
    ([WITH_MARKUP, WITHOUT_POLICY], True)])       # and this file sees what does
def test_each_wall_is_one(tmp_path, server, browse, walls_down, runs):
    url, asked = server
    folder = hostile_folder(tmp_path, [text.replace("{url}", url) for text in HOSTILE])
    (_, tags, attributes), source = browse([folder], LOOK_FOR_MARKUP, *walls_down)
    assert "img" in tags and "onerror" in attributes
    assert ("<title>hacked" in source) == runs
    assert ("/image" in asked) == bool(asked) == runs


# ---------------------------------------------------------------------------- what a reader does


def test_the_slider_and_the_filters(tmp_path, browse):
    folder = page_folder(tmp_path, "a", steps=3)
    rows = []
    for step in (1, 2, 3):
        rows.append(rollout(step, answer="best", verified=True, truth=True, rm_score=1.0,
                            advantage=0.5))
        rows.append(rollout(step, answer="worst", truth=step == 2, rm_score=2.0 * (step == 3),
                            advantage=-0.5))
    rows += [rollout(3, problem="other", advantage=0.0)] * 2
    write_jsonl(folder / "rollouts.jsonl", rows)
    seen, source = browse([folder], """
        const look = () => seen.push([byId("where").textContent, texts("#groups td.answer"),
                                      all("#groups tr.matches").length]);
        look();
        byId("previous").click(); look();
        byId("slider").value = 0; byId("slider").dispatchEvent(new Event("input")); look();
        byId("filter-missed").click(); look();
        byId("filter-hacked").click(); look();
        byId("filter-silent").click(); look();
    """)
    both = ["best", "worst"]                                # what is made more likely is on top
    assert seen == [
        ["step 3, 2 groups", [*both, "2", "2"], 0],
        ["step 2, 1 group", both, 0],
        ["step 1, 1 group", both, 0],
        ["step 2, 1 group", both, 1],
        ["step 3, 1 group", both, 1],
        ["step 3, 1 group", ["2", "2"], 0]]
    assert "<svg" in source


def test_the_verdict_and_the_truth_have_words_of_their_own(tmp_path, browse):
    folder = page_folder(tmp_path, "a", steps=1, rollouts_per_prompt=3)
    write_jsonl(folder / "rollouts.jsonl", [
        rollout(verified=True, reason="correct", truth=True, advantage=3.0),
        rollout(reason="wrong", truth=True, advantage=2.0),
        rollout(reason="no_answer", answer=None, truth=False, advantage=1.0)])
    (rows, caption), _ = browse([folder], """
        seen.push(all("#groups tbody tr").map((row) => [2, 3].map((i) => row.cells[i].textContent)),
                  texts("#groups caption"));
    """)
    assert rows == [["\u2713 accepted", "right"], ["\u2717 rejected", "right"],
                    ["\u2717 rejected, no_answer", "wrong"]]
    assert caption == ["1 of 3 accepted, weight 1"]


def test_two_runs_with_the_same_problem_stand_together(tmp_path, browse):
    one = page_folder(tmp_path, "one", steps=2)
    two = page_folder(tmp_path, "two", steps=2, reward="verifier", alpha=0.1)
    seen, _ = browse([one, two], """
        seen.push(byId("where").textContent, all("#groups article").length,
                  texts("#settings-table tr.differs th"), all("#headlines .finding").length);
    """)
    assert seen == ["step 2, 2 groups", 1, ["name", "reward", "alpha"], 2]
