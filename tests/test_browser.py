"""The page of a run in a real browser, without a window: what a model wrote stays text.

Skipped where there is no Chromium; `apt-get install chromium` brings it.
"""

import json
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from test_report import page_folder, rollout

import report
from problems import write_jsonl

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)
pytestmark = pytest.mark.skipif(CHROMIUM is None,
                                reason="there is no Chromium: apt-get install chromium")

# The elements that the page's own script makes.
MADE = {"h3", "span", "label", "article", "svg", "path", "line", "text", "circle",
        "table", "caption", "thead", "tbody", "tr", "th", "td"}

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


class Page(HTMLParser):
    """The elements of a page, in order, and the texts of those whose class is "model"."""

    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.handlers = []                        # attributes that are scripts
        self.texts = []
        self.open = []                            # for each open element: is it "model"?
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attributes if name.startswith("on")]
        is_model = "model" in (dict(attributes).get("class") or "").split()
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(is_model)
            if is_model:
                self.texts.append("")

    def handle_endtag(self, tag):
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1]:
            self.texts[-1] += data


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


def browse(path, profile):
    """The page as it is after its scripts have run. -> HTML"""
    # Without its sandbox, which root and many containers do not have; the texts are our own.
    options = ["--headless=new", "--disable-gpu", "--no-sandbox", "--no-first-run",
               f"--user-data-dir={profile}", "--virtual-time-budget=3000"]
    result = subprocess.run([CHROMIUM, *options, "--dump-dom", path.as_uri()], capture_output=True,
                            text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


def hostile_folder(tmp_path, url, texts=HOSTILE):
    """(a run whose every text is hostile, the texts). All its groups are of one step: all show."""
    texts = [text.replace("{url}", url) for text in texts]
    folder = page_folder(tmp_path, "a", steps=1, rollouts_per_prompt=1, name=texts[0],
                         policy=texts[1], reward_model=texts[3])
    rows = []
    for text in texts:
        rows.append(rollout(1, problem=text, reference=text, response=text, answer=text,
                            reason=text))
    write_jsonl(folder / "rollouts.jsonl", rows)
    return folder, texts


def change_template(monkeypatch, folder, *changes):
    """Pages are written from a changed template. changes: pairs (text, its replacement)."""
    template = report.TEMPLATE.read_text()
    for old, new in changes:
        assert template.count(old) == 1, old
        template = template.replace(old, new)
    (folder / "template.html").write_text(template)
    monkeypatch.setattr(report, "TEMPLATE", folder / "template.html")


# ---------------------------------------------------------------------------- hostile texts


def test_hostile_texts_stay_texts(tmp_path, server):
    url, asked = server
    folder, texts = hostile_folder(tmp_path, url, [*HOSTILE, REFRESH])
    html = browse(report.write_page(folder), tmp_path / "profile")
    page = Page(html)

    # Every text is there four times, as it was written: as problem, reference, response, answer.
    for text in texts:
        assert page.texts.count(text) >= 4, text

    # None of them has become an element or a handler, has run, or has fetched anything.
    template = Page(report.TEMPLATE.read_text())
    assert set(page.tags) <= set(template.tags) | MADE
    for tag in ("script", "style", "meta", "a"):
        assert page.tags.count(tag) == template.tags.count(tag) > 0
    assert page.handlers == []
    assert "<title>hacked" not in html
    assert asked == []


# Changes to the template, each of which takes one of its two walls down.
WITHOUT_POLICY = ("default-src 'none'; script-src '@SCRIPT_HASH@'; style-src 'unsafe-inline'",
                  "style-src * 'unsafe-inline'")
WITH_MARKUP = ("element.append(...children);",
               "element.append(...children); if (attributes.class === 'model') "
               "element.innerHTML = children[0];")


def test_this_file_sees_a_page_that_makes_markup_of_texts(tmp_path, server, monkeypatch):
    url, asked = server
    folder, _ = hostile_folder(tmp_path, url)
    change_template(monkeypatch, tmp_path, WITHOUT_POLICY, WITH_MARKUP)
    html = browse(report.write_page(folder), tmp_path / "profile")
    page = Page(html)
    assert "<title>hacked" in html
    assert "img" in page.tags
    assert page.handlers != []
    assert "/image" in asked


def test_the_policy_alone_lets_nothing_run(tmp_path, server, monkeypatch):
    url, asked = server
    folder, _ = hostile_folder(tmp_path, url)
    change_template(monkeypatch, tmp_path, WITH_MARKUP)
    html = browse(report.write_page(folder), tmp_path / "profile")
    assert "img" in Page(html).tags               # the first wall is down
    assert "<title>hacked" not in html
    assert asked == []


# ---------------------------------------------------------------------------- what a reader does

# Appended to the page's script: what look() has seen becomes the last text of class "model".
READ = """
const seen = [];
const look = () => seen.push({
  where: byId("where").textContent,
  rows: document.querySelectorAll("#groups tbody tr").length,
  marked: document.querySelectorAll("#groups tr.matches").length,
  answers: [...document.querySelectorAll("td[data-label=answer]")].map((e) => e.textContent),
});
ACTIONS
document.body.append(make("output", { class: "model" }, JSON.stringify(seen)));
"""


def after_actions(monkeypatch, tmp_path, path_of_page, actions):
    """What is seen on a page after a script of actions, which calls look(). -> (list, Page)"""
    change_template(monkeypatch, tmp_path,
                    ("\ndrawPage();\n", "\ndrawPage();\n" + READ.replace("ACTIONS", actions)))
    page = Page(browse(path_of_page(), tmp_path / "profile"))
    return json.loads(page.texts[-1]), page


def test_the_slider_and_the_filters(tmp_path, monkeypatch):
    folder = page_folder(tmp_path, "a", steps=3)
    rows = []
    for step in (1, 2, 3):
        rows.append(rollout(step, answer="best", verified=True, truth=True, rm_score=1.0,
                            advantage=0.5))
        rows.append(rollout(step, answer="worst", truth=step == 2, rm_score=2.0 * (step == 3),
                            advantage=-0.5))
    rows += [rollout(3, problem="other", advantage=0.0)] * 2
    write_jsonl(folder / "rollouts.jsonl", rows)
    seen, page = after_actions(monkeypatch, tmp_path, lambda: report.write_page(folder), """
        look();
        byId("previous").click(); look();
        byId("slider").value = 0; byId("slider").dispatchEvent(new Event("input")); look();
        byId("filter-missed").click(); look();
        byId("filter-hacked").click(); look();
        byId("filter-silent").click(); look();
    """)
    assert [view["where"] for view in seen] == [
        "step 3, 2 groups", "step 2, 1 group", "step 1, 1 group", "step 2, 1 group",
        "step 3, 1 group", "step 3, 1 group"]
    assert [view["rows"] for view in seen] == [4, 2, 2, 2, 2, 2]
    assert [view["marked"] for view in seen] == [0, 0, 0, 1, 1, 0]
    assert seen[1]["answers"] == ["best", "worst"]          # what is made more likely is on top
    assert "svg" in page.tags


def test_two_runs_with_the_same_problem_stand_together(tmp_path, monkeypatch):
    one = page_folder(tmp_path, "one", steps=2)
    two = page_folder(tmp_path, "two", steps=2, reward="verifier", alpha=0.1)
    seen, page = after_actions(monkeypatch, tmp_path, lambda: report.write_page(one, two), """
        look();
        seen.push(document.querySelectorAll("#groups article").length);
        seen.push([...document.querySelectorAll("#settings-table tr.differs th")]
                  .map((e) => e.textContent));
        seen.push(document.querySelectorAll("#headlines .finding").length);
    """)
    assert seen[0]["where"] == "step 2, 2 groups"
    assert seen[1:] == [1, ["name", "reward", "alpha"], 2]
