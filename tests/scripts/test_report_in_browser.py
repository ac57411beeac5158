"""The page in a real browser, headless Chromium: its buttons, its two colour schemes, a phone's width, no network."""

import json
import re
import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from scripts.reporting import finished_run, report_page
from tests.helpers import finished_runs

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no browser here: apt-get install chromium chromium-driver"
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--force-device-scale-factor=1"),
)
OUTCOMES = ("FN", "FP", "TP", "TN")
PHONE = 400
READABLE = 4.5  # contrast of text and ground that WCAG 2.1 asks for (1.4.3)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A page of two runs with a table, a figure and a discussion, all wider than a phone where they can be."""
    folder = tmp_path_factory.mktemp("page")
    runs = [finished_run.read(each) for each in finished_runs.make(folder, "cbis", {"one": 0, "two" + "_very" * 12: 3})]
    out = folder / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        figures = [report_page.examples(out, runs[0])]
        report_page.write_page(out, runs, "Title", [WideTable()], figures, f"A word of one piece: {'long' * 40}.")
    return out / "report.html"


class WideTable:
    """A table of many columns."""

    title, header, notes = "Table 1", ("a column with a long head",) * 8, ("A note.",)
    rows = [("0.900 (0.848-0.936)",) * 8] * 2


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium with a fresh profile; it keeps what pages log and ask for."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def there(browser, page):
    """The page, opened anew on a desk's screen in light colours."""
    look(browser, page, 1100, "light")
    return browser


def look(browser, page: Path, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.as_uri())


def seen(browser, selector: str) -> list:
    return [element for element in browser.find_elements(By.CSS_SELECTOR, selector) if element.is_displayed()]


def press(browser, selector: str) -> None:
    browser.find_element(By.CSS_SELECTOR, selector).click()


def pressed(browser, selector: str) -> bool:
    return browser.find_element(By.CSS_SELECTOR, selector).get_attribute("aria-pressed") == "true"


def shade(colour: str) -> float:
    """Relative luminance, from 0 black to 1 white, of a computed "rgb(...)" (WCAG 2.1)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def colours(browser, selector: str) -> tuple[float, float]:
    """Luminance of an element's text and of the page's ground."""
    text = browser.find_element(By.CSS_SELECTOR, selector).value_of_css_property("color")
    return shade(text), shade(browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color"))


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_filter_shows_the_cards_of_its_outcome_as_many_as_it_says(there, outcome):
    button = f"#gallery-outcomes button[value={outcome}]"
    everything = len(seen(there, ".card"))
    press(there, button)
    cards = seen(there, ".card")
    assert {card.get_attribute("data-outcome") for card in cards} <= {outcome}
    assert all(outcome in card.text for card in cards)
    assert there.find_element(By.CSS_SELECTOR, button).text == f"{outcome} {len(cards)}"
    assert there.find_element(By.ID, "gallery-shown").text == f"{len(cards)} of {everything} masses"
    assert pressed(there, button) and not pressed(there, "#gallery-outcomes button[value=all]")


def test_the_outcomes_together_are_all_masses(there):
    counts = [int(button.text.split()[1]) for button in seen(there, "#gallery-outcomes button")]
    assert counts[0] == sum(counts[1:]) == len(seen(there, ".card")) == 24
    assert min(counts[1:3]) > 0, "these random nets make both errors, or the other tests show little"


def test_choosing_a_run_shows_its_masses_and_keeps_the_filter(there):
    press(there, "#gallery-outcomes button[value=FN]")
    press(there, "#gallery-runs button[value^=two]")
    (panel,) = seen(there, ".cards")
    assert panel.get_attribute("data-run").startswith("two")
    assert {card.get_attribute("data-outcome") for card in seen(there, ".card")} <= {"FN"}
    assert pressed(there, "#gallery-outcomes button[value=FN]") and not pressed(
        there, "#gallery-runs button[value=one]"
    )


def test_a_picture_turns_into_its_saliency_map_and_back_by_mouse_and_keyboard(there):
    tile = seen(there, ".tile")[0]
    layers = [tile.find_element(By.CLASS_NAME, name) for name in ("crop", "map")]
    assert [layer.value_of_css_property("visibility") for layer in layers] == ["visible", "hidden"]
    tile.click()
    assert [layer.value_of_css_property("visibility") for layer in layers] == ["hidden", "visible"]
    assert tile.get_attribute("aria-pressed") == "true"
    tile.send_keys(Keys.ENTER)
    assert [layer.value_of_css_property("visibility") for layer in layers] == ["visible", "hidden"]
    assert layers[0].value_of_css_property("background-image") != layers[1].value_of_css_property("background-image")


def test_one_button_turns_all_pictures(there):
    there.find_element(By.ID, "gallery-maps").send_keys(Keys.SPACE)
    assert all(tile.get_attribute("aria-pressed") == "true" for tile in seen(there, ".tile"))
    press(there, "#gallery-maps")
    assert all(tile.get_attribute("aria-pressed") == "false" for tile in seen(there, ".tile"))


def test_a_curves_button_hides_and_shows_it(there):
    curve, button = "#roc g[data-run=one]", "#roc-key button[value=one]"
    assert seen(there, curve) and pressed(there, button)
    press(there, button)
    assert not seen(there, curve) and not pressed(there, button)
    press(there, button)
    assert seen(there, curve)


def test_the_keyboard_reaches_every_button_in_sight(there):
    buttons = seen(there, "button")
    reached = set()
    for _ in range(len(buttons) + 60):  # links and tables' scrollers are reached as well
        there.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(there.switch_to.active_element)
    assert set(buttons) <= reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_on_a_ground_of_the_scheme(there, page, scheme):
    look(there, page, 1100, scheme)
    for selector in ("h1", ".quiet, .notes", "#results .paper", ".wrong", "nav a", "#roc-key small", "dt"):
        text, ground = colours(there, selector)
        assert ground > 0.9 if scheme == "light" else ground < 0.05
        lighter, darker = max(text, ground), min(text, ground)
        assert (lighter + 0.05) / (darker + 0.05) > READABLE, selector


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_drawn_on_white_stay_on_white(there, page, scheme):
    look(there, page, 1100, scheme)
    (picture,) = seen(there, "figure img")
    assert shade(picture.value_of_css_property("background-color")) == 1
    assert picture.get_attribute("alt")


def test_on_a_phone_nothing_is_wider_than_the_page_but_tables_in_their_scrollers(there, page):
    look(there, page, PHONE, "light")
    wide = there.execute_script(
        "return [...document.body.querySelectorAll('*')].filter((e) => !e.closest('.scroll > *, svg') &&"
        " e.getBoundingClientRect().right > arguments[0] + 1).map((e) => e.outerHTML.slice(0, 80))",
        PHONE,
    )
    assert wide == []
    assert there.execute_script("return document.documentElement.scrollWidth") == PHONE
    scroller = there.find_element(By.CSS_SELECTOR, "#tables .scroll")
    assert there.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth", scroller)


def test_every_picture_has_words_for_those_who_do_not_see_it(there):
    for selector, attribute in (("img", "alt"), ("svg[role=img]", "aria-label"), (".tile", "aria-label")):
        found = there.find_elements(By.CSS_SELECTOR, selector)
        assert found and all(element.get_attribute(attribute) for element in found)


def test_nothing_is_logged_and_nothing_asked_of_any_network(browser, page):
    browser.get_log("performance"), browser.get_log("browser")
    look(browser, page, 1100, "light")
    press(browser, "#gallery-runs button[value^=two]")
    press(browser, "#gallery-maps")
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in asked
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
