"""The report page: its numbers are those of the results, its text is escaped, and a browser shows all of it."""

import base64
import io
import json
import re
import time

import numpy as np
import pytest
from PIL import Image

from p2d.discovery.verdict import Claims
from p2d.fields import Grid, Mask, Species
from p2d.show.figures import VELOCITIES
from p2d.show.report_page import charts, html, pictures
from p2d.show.report_page.equation import term_html
from p2d.show.report_page.html import typeset
from p2d.show.view import View
from p2d.snapshots.doubts import Doubt

from ..cli.test_ui import browser, needs_chromium
from ..discovery.test_result import discovery
from ..evaluate.helpers import dataset_of
from .report_pages import CHAOS, Read, save_equation, states_of, write_everything, write_page

EVERY_SECTION = [
    *("equation", "rates", "data", "velocity", "rollout"),
    *("generated", "denoised", "sweep", "losses", "record", "cite"),
]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_everything(folder)
    return folder


@pytest.fixture(scope="module")
def file(out):
    return write_page(out)


@pytest.fixture(scope="module")
def page(file):
    return Read(file)


def test_all_that_there_is_is_shown_in_order(page):
    assert page.sections == EVERY_SECTION
    assert {attributes["href"].removeprefix("#") for attributes in page.of("a")} >= set(EVERY_SECTION)


def test_the_numbers_are_those_of_the_summary(out, page):
    summary = json.loads((out / "report/tiny/summary.json").read_text())
    head, *rows = page.tables[f"On {summary['held_out']} held-out snapshots"]
    assert head == ["", "equation", "flow", "true system"]
    told = {row[0]: row[1:] for row in rows}
    parts = [summary["discover"], summary["flow"]]
    assert told["cosine with the true rate"] == [*(f"{part['cosine']:.5f}" for part in parts), ""]
    assert told["cosine with the true rate, v"] == [*(f"{part['cosine_v']:.5f}" for part in parts), ""]
    assert told["the largest |z|"] == [f"{part['z_max']:.2f}" for part in (*parts, summary["truth"])]


def test_each_term_tells_its_interval_and_its_true_value(page):
    value = CHAOS.terms["v"]["u*v**2"]
    assert f"{value:.5g} ± {0.01 * value:.2g}90 % interval {0.9 * value:.4g} to {1.1 * value:.4g}" in page.words
    head, *rows = page.tables["Coefficients"]
    assert head[3] == "true" and len(rows) == sum(map(len, CHAOS.terms.values()))
    numbers = [float(row[3].replace("−", "-")) for row in rows]
    assert numbers == pytest.approx([c for terms in CHAOS.terms.values() for c in terms.values()], rel=1e-4)


def test_rates_lie_over_the_true_ones(page):
    chart = page.data["charts"]["rates-1"]
    true, (same, equation, flow) = chart["at"], chart["series"]
    assert true == sorted(true) and same["values"] == true
    np.testing.assert_allclose(equation["values"], true, rtol=1e-4, atol=1e-7)  # the truth, as the page has its digits
    assert np.corrcoef(flow["values"], true)[0, 1] > 0.9
    assert [one["label"] for one in chart["series"]] == ["equal", "equation", "flow"]


def test_distances_of_generated_patterns_stand_beside_their_floors(out, page):
    quality = json.loads((out / "report/tiny_generated_16x16/quality.json").read_text())["quality"]
    rows = {row[0]: row[1:] for row in page.tables["Are they alike?"]}
    for key, name in (("spectrum", "power spectrum"), ("energy_distance", "energy distance")):
        own = quality[key]
        assert rows[name][:3] == [f"{own['distance']:.4f}", f"{own['floor']:.4f}", f"{own['ratio']:.2f}"]


def test_a_sweep_is_a_table_of_its_metric(page):
    assert page.tables["cosine, by setting"] == [
        ["sym ↓  alpha →", "0.5", "0.8"],
        ["0", "0.05", "0.08"],
        ["0.1", "0.15", "0.18"],
    ]


def test_pictures_stand_in_the_page_have_words_and_nothing_else_is_named(file, page):
    images = page.of("img")
    assert len(images) > 30
    assert all(re.match("data:image/(png|webp);base64,", image["src"]) for image in images)
    assert all(image["alt"] for image in images if image.get("class") == "field")
    text = file.read_text()
    assert not re.search(r"""(src|data|action|poster)=["']?(?!data:|data-)(https?:|//|/)|url\(|@import""", text)
    [policy] = [meta["content"] for meta in page.of("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_names_and_commands_are_escaped(out):
    command = "p2d </pre><script>x</script>"
    event = {"event": "started", "stage": "discover", "result": "discover/tiny/equation.json", "command": command}
    with (out / "events.jsonl").open("a") as lines:
        lines.write(json.dumps(event) + "\n")
    read = Read(write_page(out, name="<b>&\"'"))
    assert read.words.count("<b>&\"'") == 2  # in the title, and at the top
    assert command in read.words
    assert [name for name, _ in read.elements].count("script") == 2


def test_what_a_chart_is_called_cannot_end_its_script():
    written = charts.as_json({"label": "</script><b>"})
    assert "<" not in written and json.loads(written) == {"label": "</script><b>"}


def test_again_nothing_is_done_until_something_is_new(tmp_path):
    dataset_of(states_of(), tmp_path / "data" / "tiny_16x16", CHAOS)
    first = write_page(tmp_path)
    assert Read(first).sections == ["equation", "data", "velocity", "record", "cite"]
    before = first.stat().st_mtime_ns
    assert write_page(tmp_path).stat().st_mtime_ns == before
    save_equation(tmp_path, "tiny", discovery(terms=CHAOS.terms))
    assert "rollout" in Read(write_page(tmp_path)).sections


def test_an_equation_that_is_not_known_says_so_first(tmp_path):
    dataset_of(states_of(), tmp_path / "data" / "tiny_16x16")
    doubt = Doubt("changing", "the averages still change", {}, "the answer is biased", "take later snapshots")
    save_equation(tmp_path, "tiny", discovery(terms=CHAOS.terms, claims=Claims(0.3, 0.1, 0.1, 1e-6, (), (doubt,))))
    read = Read(write_page(tmp_path))
    words = read.words
    assert "The equation is not known." in words[: words.index("∂")]
    for told in ("velocity not known", "terms not known", "held-out averages disagree", "Take later snapshots"):
        assert told in words
    assert read.data["animation"]["times"][0].startswith("0 ")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("u^2 v", "u<sup>2</sup> v"),
        ("-6e-04 to 2e+03", "−6·10<sup>−4</sup> to 2·10<sup>3</sup>"),
        ("2.03(4)e-05", "2.03(4)·10<sup>−5</sup>"),
        ("Gray-Scott, a-3, 1-D", "Gray-Scott, a-3, 1-D"),
        ("<b>", "&lt;b&gt;"),
    ],
)
def test_numbers_in_words_are_set(text, shown):
    assert typeset(text) == shown


@pytest.mark.parametrize(
    ("term", "shown"),
    [
        ("1", ""),
        ("u*v**2", "u\u2009v2"),
        ("lap(u)", "∇2u"),
        ("lap(lap(u))", "∇4u"),
        ("lap(u**3)", "∇2(u3)"),
        ("grad(u, u)", "|∇u|2"),
        ("grad(u, v)", "∇u·∇v"),
        ("u*d(u, x)", "u\u2009∂xu"),
        ("u/(1 + v)", "u/(1 + v)"),
        ("(u + v)*exp(u - v)", "(u + v)\u2009exp(u − v)"),
        ("F_1*u", "F1\u2009u"),
    ],
)
def test_a_term_is_set_as_mathematics(term, shown):
    assert re.sub("<[^>]*>", "", term_html(term, ("u", "v", "F_1"))) == shown


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))


def test_a_picture_has_the_colour_of_each_value():
    field = np.array([[-1.0, 0.0], [1.0, np.nan]])
    image = np.array(decoded(pictures.png(field, (-1.0, 1.0), VELOCITIES)).convert("RGBA"))
    colours = pictures.colours_of(VELOCITIES)
    np.testing.assert_array_equal(image[0, 0, :3], colours[0])
    np.testing.assert_array_equal(image[1, 0, :3], colours[-1])
    assert image[..., 3].tolist() == [[255, 255], [255, 0]]


def test_frames_lie_side_by_side_and_keep_their_values():
    frames = np.linspace(0, 1, 5)[:, None, None] * np.ones((5, 16, 16))
    frames[2, :8] = np.nan
    sheet = np.array(decoded(pictures.sprite(frames, (0.0, 1.0), 3)).convert("RGBA"))
    assert sheet.shape == (32, 48, 4)
    for n, frame in enumerate(frames):
        part = sheet[16 * (n // 3) :, 16 * (n % 3) :][:16, :16]
        np.testing.assert_array_equal(part[..., 3] > 0, np.isfinite(frame))
        inner = part[10:14, 4:12, 0] / 255  # away from the edges, which lossy compression blurs
        np.testing.assert_allclose(inner, frame[10:14, 4:12], atol=0.05)


def test_large_fields_are_shown_by_means_over_squares():
    fields = np.arange(2 * 10 * 7.0).reshape(2, 10, 7)
    small = pictures.shrunk(fields, 5)
    assert small.shape == (2, 5, 3)
    assert small[0, 0, 0] == fields[0, :2, :2].mean()
    assert pictures.shrunk(fields[:, :1], 3).shape == (2, 1, 2)
    assert pictures.shrunk(fields, 16) is fields


def test_elements_escape_text_and_attributes_alone():
    made = html.element("p", "a < b", html.element("i", "x"), None, title='"&"', hidden=True, class_=None)
    assert made == '<p title="&quot;&amp;&quot;" hidden>a &lt; b<i>x</i></p>'


GRIDS = {
    "open with a unit": Grid((24, 20), 0.5, ("open", "open"), "um"),
    "mask": Grid((24, 20), mask=Mask.of(np.hypot(*(np.mgrid[:24, :20] - 10)) < 9)),
    "one dimension": Grid((1, 48)),
}


@pytest.mark.parametrize(
    ("kind", "species"),
    [
        ("open with a unit", 1),
        ("mask", 3),
        pytest.param("one dimension", 1, marks=pytest.mark.slow),
        ("one dimension", 8),
    ],
)
def test_other_fields_have_a_page(kind, species, tmp_path):
    grid = GRIDS[kind]
    states = grid.masked(np.concatenate([states_of(12, *grid.shape)] * 4, axis=1)[:, :species])
    dataset_of(states, tmp_path / "data" / "tiny", grid=grid)
    terms = {name: {f"lap({name})": 0.1 + 0.1 * n} for n, name in enumerate("abcefghi"[:species])}
    others = {
        "errors": {s: dict.fromkeys(own, 0.01) for s, own in terms.items()},
        "intervals": {s: {t: (0.9 * c, 1.1 * c) for t, c in own.items()} for s, own in terms.items()},
        "frequency": None,
        "noise": (0.0,) * species,
        "grid": grid,
    }
    save_equation(tmp_path, "tiny", discovery(terms=terms, **others))
    read = Read(write_page(tmp_path))
    assert read.sections == ["equation", "data", "velocity", "rollout", "record", "cite"]
    assert len([one for one in read.of("button") if "data-species" in one]) == (species if species > 1 else 0)
    assert bool(read.data["animation"]) == (kind != "one dimension")
    assert len(read.of("canvas")) == (0 if kind == "one dimension" else species)
    assert ("lengths in um" in read.words) == (kind == "open with a unit")


def test_a_species_says_its_unit():
    view = View((Species("u", "nM"),), Grid((8, 8), 0.5, unit="um"))
    assert pictures.size_text(view, (8, 8)) == "4 × 4 um"
    assert pictures.size_text(view, (4, 4)).endswith("lower resolution")
    assert "u (nM)" in pictures.colour_bar((0, 1), view.label(0))


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_page(file, width):
    with browser(width, 900) as driver:
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            driver.get(f"file://{file}")
            assert driver.execute_script("return document.documentElement.dataset.theme") == scheme
            _is_whole(driver)
            _is_readable(driver)
            _moves(driver)
            _tells_intervals(driver)
        assert driver.get_log("browser") == []


def _is_whole(driver):
    """All pictures are there, all charts are drawn, and nothing was fetched."""
    assert driver.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    fetched = driver.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))"
    )
    assert fetched == []
    charts_drawn, places = driver.execute_script(
        "return [document.querySelectorAll('.uplot canvas').length, document.querySelectorAll('[data-chart]').length]"
    )
    assert charts_drawn == places > 0


def _is_readable(driver):
    """Nothing is wider than the screen, and text stands out from its ground."""
    wide, screen = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= screen
    colours = driver.execute_script(
        "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor].map(c => c.match(/[\\d.]+/g))"
    )
    ink, ground = (_luminance([float(part) for part in colour[:3]]) for colour in colours)
    assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) > 7  # WCAG 2, level AAA


def _luminance(colour):
    """Relative luminance of sRGB, WCAG 2."""
    share = np.array(colour) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _moves(driver):
    """The animation plays, pauses, and goes where the slider, or a key, puts it."""

    def frame():
        return driver.execute_script(
            "const c = document.querySelector('.shown .kind canvas'), p = document.querySelector('.scrub').value;"
            "return [p, document.querySelector('.when').textContent, c.toDataURL()]"
        )

    driver.execute_script("document.getElementById('animation').scrollIntoView({behavior: 'instant', block: 'center'})")
    time.sleep(0.8)  # it begins by itself where it is seen
    button = driver.find_element("css selector", ".play")
    assert button.text == "Pause"
    button.click()
    first = frame()
    time.sleep(0.4)
    assert frame() == first
    driver.find_element("id", "animation").send_keys("\ue014")  # arrow to the right
    after = frame()
    assert int(after[0]) == int(first[0]) + 1 and after[1] != first[1] and after[2] != first[2]
    driver.execute_script(
        "const s = document.querySelector('.scrub'); s.value = s.max; s.dispatchEvent(new Event('input'))"
    )
    assert frame()[1] == driver.execute_script(
        "return JSON.parse(document.getElementById('page-data').text).animation.times.at(-1)"
    )
    other = driver.find_element("css selector", '.choice button[data-species="0"]')
    driver.execute_script("arguments[0].click()", other)
    shown = driver.execute_script("return [...document.querySelectorAll('.of-species.shown')].map(e => e.className)")
    assert shown and all("s0" in name for name in shown)


def _tells_intervals(driver):
    """A term that is pointed at, or tapped, opens what is known of it, within the screen."""
    from selenium.webdriver import ActionChains

    for term in driver.find_elements("css selector", ".equation .term")[:4]:
        driver.execute_script("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", term)
        ActionChains(driver).move_to_element(term).perform()
        tips = [tip for tip in driver.find_elements("css selector", ".tip") if tip.is_displayed()]
        assert len(tips) == 1 and "90 % interval" in tips[0].text
        left, right, wide = driver.execute_script(
            "const b = arguments[0].getBoundingClientRect(); return [b.left, b.right, innerWidth]", tips[0]
        )
        assert left >= 0 and right <= wide
