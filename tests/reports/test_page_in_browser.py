"""The report page in Chromium, at two widths and in two color schemes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsanet.reports.internals import Internals, MistakeMaps
from dsanet.reports.page import build_page
from dsanet.reports.run_data import read_runs
from tests.chromium import open_chromium
from tests.reports.run_dirs import write_run
from tests.reports.test_internals_sections import make_maps
from tests.reports.test_kernel_panels import make_kernels

pytestmark = pytest.mark.web


@pytest.fixture
def browser() -> Iterator[Any]:
    browser = open_chromium('browser')
    yield browser
    browser.quit()


def set_screen(browser: Any, width: int, scheme: str) -> None:
    features = [{'name': 'prefers-color-scheme', 'value': scheme}]
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': features})
    size = {'width': width, 'height': 900, 'deviceScaleFactor': 1, 'mobile': width < 500}
    browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)


def test_kernels_and_maps_fit_and_fold_by_keyboard(tmp_path: Path, browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    (run,) = read_runs([write_run(tmp_path / 'x', 0)])
    maps = MistakeMaps(make_maps(8), make_maps(8))
    internals = Internals('best.pth', make_kernels(4, [0, 0, 1, 1]), '', [maps] * 4)
    page = tmp_path / 'report.html'
    page.write_text(build_page([replace(run, internals=internals)]))
    browser.get(page.as_uri())
    colors = {}
    for width, scheme in ((390, 'dark'), (390, 'light'), (1400, 'dark'), (1400, 'light')):
        set_screen(browser, width, scheme)
        assert browser.execute_script('return document.documentElement.scrollWidth') == width
        script = (
            'return [...document.querySelectorAll("#dsa-kernels svg, #activation-maps img")]'
            '.map(e => e.getBoundingClientRect()).filter(r => r.width < 200 || r.right > innerWidth).length'
        )
        assert browser.execute_script(script) == 0, 'each picture is wide enough to be read and on the page'
        color = 'return getComputedStyle(document.querySelector("#dsa-kernels svg text")).fill'
        colors[scheme] = browser.execute_script(color)
    assert colors['dark'] != colors['light']
    assert browser.execute_script('return document.querySelectorAll("#dsa-kernels svg").length') == 8
    summary = browser.find_element('css selector', '#dsa-kernels summary')
    summary.send_keys(Keys.ENTER)
    assert not browser.execute_script('return document.querySelector("#dsa-kernels details").open')
    assert browser.get_log('browser') == []


def test_page_fits_and_opens_by_keyboard(tmp_path: Path, browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    page = tmp_path / 'report.html'
    page.write_text(build_page(read_runs([write_run(tmp_path / 'x', 0), write_run(tmp_path / 'y', 0, rate=0.1)])))
    browser.get(page.as_uri())
    backs = []
    for width, scheme in ((390, 'dark'), (1400, 'light')):
        set_screen(browser, width, scheme)
        assert browser.execute_script('return document.documentElement.scrollWidth') == width
        backs.append(browser.execute_script('return getComputedStyle(document.body).backgroundColor'))
    assert backs == ['rgb(13, 17, 23)', 'rgb(255, 255, 255)']
    summary = browser.find_element('css selector', 'summary')
    summary.send_keys(Keys.ENTER)
    assert browser.execute_script('return document.querySelector("details").open')
    assert browser.get_log('browser') == []
