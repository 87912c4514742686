"""The pages in a browser: light, dark, phone and paper, by keyboard, with axe's checks.

Screenshots lie in the test's temporary folder, whose path is printed (`pytest -s`, or `-rP`). Skips
by name where there is no Chromium. One look at one page is in the fast suite, the rest is slow.
"""

import shutil

import pytest

from agency_records import curve as agency_curve
from agency_records import write_run as write_agency_run
from report_records import rich_records, two, write_run
from resprout.report.agency import write_agency_report
from resprout.report.page import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True},
}
# Every rule of WCAG 2 to level AA (contrast, labels, names, roles), and axe's good practice.
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.fixture(scope="module")
def browser():
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"needs a browser ({', '.join(BROWSERS)}), which is not here")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as started:
        # It opens our own file alone; a sandbox is not to be had in most containers.
        opened = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    records = rich_records()
    evil = "</script><script>document.title = 'taken'</script>\u2028<img src=x onerror=alert(1)>"
    for record in records:
        record["measures"]["text"]["samples"][1]["text"] = evil
    write_run(folder, records, missing=["never"], protocol=["fair", "paper"], study="nano-biogpt")
    return write_report(folder)


@pytest.fixture(scope="module")
def short_page(tmp_path_factory):
    """Every kind of thing once: axe looks at each element, which takes seconds on a long page."""
    folder = tmp_path_factory.mktemp("short")
    return write_report(write_run(folder, rich_records(["magnitude"], ["fair"]), missing=["never"]))


@pytest.fixture
def open_page(browser, page_file):
    """Opens the page with a look; what the browser complains of fails the test at its end."""
    contexts, complaints = [], []

    def opened(look="light", file=page_file, **options):
        context = browser.new_context(**LOOKS[look], **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url)
                if request.url != file.as_uri() else None)  # fmt: skip
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def agency_page(tmp_path_factory):
    """A page with two pairs, and what its tables have for it."""
    heads = {
        "layer": 0, "heads": 2, "gates": [1.0, 0.5], "states": ["active", "withdrawn"],
        "consent": [True, False], "utilisation": [0.4, None], "alignment": [0.8, 0.2],
        "violations": [0, 3],
    }  # fmt: skip
    agency = {"step": 9, "layers": [heads]}
    records = agency_curve("bo", (4.0, 4.3, 5.0)) + agency_curve(
        "ada", (4.0, 4.05, 4.4), agency=agency
    )
    return write_agency_report(write_agency_run(tmp_path_factory.mktemp("agency"), records))


def check(page, path):
    """A screenshot, and all of axe's rules."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")
    page.screenshot(path=path, full_page=True)
    print(f"screenshot: {path}")
    found = axe.Axe().run(page, options=RULES)
    assert not found.response["violations"], found.generate_report()
    assert "color-contrast" in {rule["id"] for rule in found.response["passes"]}
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    return {rule["id"] for rule in found.response["passes"]}


def test_the_page_opens_and_is_accessible(open_page, short_page, tmp_path):
    passes = check(open_page(file=short_page), tmp_path / "light.png")
    assert {"label", "select-name"} <= passes


@pytest.mark.slow
@pytest.mark.parametrize("look", ["dark", "phone"])
def test_the_page_is_accessible_in_every_look(open_page, short_page, tmp_path, look):
    check(open_page(look, file=short_page), tmp_path / f"{look}.png")


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
def test_the_agency_page_is_accessible_too(open_page, agency_page, tmp_path, look):
    page = open_page(look, file=agency_page)
    page.eval_on_selector_all("details", "all => all.forEach((one) => { one.open = true; })")
    check(page, tmp_path / f"agency_{look}.png")
    head = page.locator("th", has_text="perplexity").first
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"


@pytest.mark.slow
def test_every_control_is_reached_and_its_focus_is_seen(open_page, short_page):
    page = open_page(file=short_page)
    wanted = page.locator(
        "a[href], button:visible, select:visible, input:visible:enabled, summary, [tabindex='0']"
    )
    reached = set()
    for _ in range(wanted.count() + 5):
        page.keyboard.press("Tab")
        here = page.evaluate(
            """() => { const e = document.activeElement;
            e.dataset.seen = 1; return [e.tagName, getComputedStyle(e).outlineStyle]; }"""
        )
        if here[0] != "BODY":
            reached.add(tuple(here))
    assert {style for _, style in reached} == {"solid"}
    assert {"A", "SELECT", "INPUT", "BUTTON", "svg", "SUMMARY", "DIV"} <= {
        tag for tag, _ in reached
    }
    assert page.locator("[data-seen]").count() >= wanted.count()


@pytest.mark.slow
def test_among_many_curves_the_chosen_one_stands_out(open_page):
    page = open_page()
    assert page.locator("#plot.many").count() == 1
    page.locator("#plot").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#plot g.chosen").count() == 1
    faint = page.locator("#plot g:not(.chosen)").first
    assert faint.evaluate("group => getComputedStyle(group).opacity") == "0.3"
    page.keyboard.press("Escape")
    assert page.locator("#plot g.chosen").count() == 0


@pytest.mark.slow
def test_what_is_folded_is_printed(open_page, short_page):
    page = open_page(file=short_page)
    assert page.locator("details:not([open])").count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("details:not([open])").count()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count()


@pytest.mark.slow
def test_paper_is_light_and_shows_all_levels(open_page, tmp_path):
    page = open_page("dark")
    page.emulate_media(media="print")
    page.screenshot(path=tmp_path / "print.png", full_page=True)
    page.pdf(path=tmp_path / "print.pdf")
    print(f"screenshot: {tmp_path / 'print.png'}")
    assert (tmp_path / "print.pdf").read_bytes().startswith(b"%PDF")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".controls").first.is_visible()
    assert not page.locator("text=copy table").first.is_visible()
    assert page.locator("#plot circle").first.is_visible()
    assert all(page.locator(".level").nth(i).is_visible() for i in range(3))


@pytest.mark.slow
def test_curves_are_read_and_chosen_by_keyboard(open_page):
    page = open_page()
    lines = page.locator("#plot g")
    assert lines.count() == 8  # the published ones are off at first
    page.locator("#plot").focus()
    page.keyboard.press("ArrowRight")
    reading = page.locator("#reading")
    assert reading.inner_text().startswith("ada, magnitude, fair, 0% asked for: held-out loss")
    page.keyboard.press("ArrowRight")
    assert "50% asked for" in reading.inner_text()
    assert " 3.25 (" in reading.inner_text()
    page.keyboard.press("ArrowDown")
    assert reading.inner_text().startswith("bo, magnitude, fair, 50% asked for")
    assert page.locator("#plot .ring").count() == 1
    page.locator("#legend input").first.focus()
    page.keyboard.press("Space")
    assert lines.count() == 7
    page.select_option("#show", "protocol:paper")
    assert lines.count() == 4
    page.select_option("#show", "")
    assert lines.count() == 8


@pytest.mark.slow
def test_every_pair_of_axes_is_drawn(open_page):
    page = open_page()
    for x in page.eval_on_selector_all("#x option", "options => options.map(o => o.value)"):
        for y in page.eval_on_selector_all("#y option", "options => options.map(o => o.value)"):
            page.select_option("#x", x)
            page.select_option("#y", y)
            assert page.locator("#plot g").count() == 8, (x, y)
            assert page.locator("#plot").inner_html().count("NaN") == 0, (x, y)
    page.select_option("#x", "surviving")
    page.select_option("#y", "nats")
    before = page.locator("#plot g path").first.get_attribute("d")
    page.check("#logx")
    assert page.locator("#plot g path").first.get_attribute("d") != before
    page.select_option("#x", "amount")  # which begins at 0: no logarithm
    assert page.locator("#logx").is_disabled()
    assert not page.locator("#logx").is_checked()


@pytest.mark.slow
def test_the_pointer_reads_the_nearest_point(open_page):
    page = open_page()
    page.locator("#plot circle").first.hover(force=True)  # another curve begins at the same place
    assert "0% asked for" in page.locator("#reading").inner_text()


@pytest.mark.slow
def test_published_curves_are_laid_over_on_demand(open_page):
    page = open_page()
    own = page.locator("#legend label", has_text="published")
    if not own.count():
        pytest.skip("needs results/published, which is not here")
    page.select_option("#x", "amount")
    own.first.locator("input").check()
    assert page.locator("#plot g").count() == 9


@pytest.mark.slow
def test_tables_sort_by_figures_and_copy(open_page):
    from playwright.sync_api import expect  # not everywhere where these tests are read

    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    table = page.locator("section:has(#figures) table")
    heading = table.locator("th", has_text="nats per token")
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    column = heading.evaluate("cell => cell.cellIndex")
    losses = [float(row.split("\t")[column]) for row in table.locator("tbody tr").all_inner_texts()]
    assert losses == sorted(losses)
    assert heading.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    page.locator("section:has(#figures) button", has_text="copy table").click()
    expect(page.locator("#said")).to_have_text("table copied")
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert len(copied) == 25
    assert copied[0].split("\t")[:3] == ["subject", "method", "protocol"]


@pytest.mark.slow
def test_texts_stand_side_by_side_and_repetition_is_marked(open_page):
    page = open_page()
    columns = page.locator(".column:visible")
    assert columns.count() == 2
    assert columns.first.locator("mark").first.inner_text() == "one two three four"
    page.locator("#level").focus()
    page.keyboard.press("End")
    assert page.locator("#shown").inner_text() == "90%"
    assert "a word at 0.9" in columns.first.inner_text()
    page.locator(".beside").nth(2).check()
    assert columns.count() == 3
    assert "<img src=x" in columns.first.inner_text()
    assert page.title() == "nano-biogpt · Resprout"  # no text of a model became part of the page


@pytest.mark.slow
def test_what_was_cut_where_is_drawn(open_page):
    page = open_page()
    page.locator("#depth").focus()
    page.keyboard.press("End")
    words = page.locator("#maps svg").first.get_attribute("aria-label")
    assert "layer 0: neuron 0 78.8%, neuron 1 78.8%" in words
    assert "Dead, gone whole: layer 1 neuron 0" in page.locator("#mapwords").inner_text()
    page.select_option("#whose", "1")
    heads = page.locator("#maps svg").nth(2).get_attribute("aria-label")
    assert "overloaded, gate 0.5" in heads


@pytest.mark.slow
def test_without_scripts_the_drawn_charts_and_all_texts_are_there(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("noscript svg").count() == 2
    assert page.locator(".level").nth(2).is_visible()
    assert not page.locator("#chart").is_visible()


@pytest.mark.slow
def test_a_small_and_an_older_run_is_drawn_too(open_page, tmp_path):
    file = write_report(write_run(tmp_path, two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))))
    page = open_page("phone", file=file)
    page.screenshot(path=tmp_path / "older.png", full_page=True)
    print(f"screenshot: {tmp_path / 'older.png'}")
    assert page.locator("#plot g").count() == 2
    assert page.locator("#insides").count() == 0
