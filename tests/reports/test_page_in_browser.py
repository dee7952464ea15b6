"""The report page in Chromium, at two widths and in two color schemes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dsanet.reports.page import build_page
from dsanet.reports.run_data import read_runs
from tests.chromium import open_chromium
from tests.reports.run_dirs import write_run

pytestmark = pytest.mark.web


@pytest.fixture
def browser() -> Iterator[Any]:
    browser = open_chromium('browser')
    yield browser
    browser.quit()


def test_page_fits_and_opens_by_keyboard(tmp_path: Path, browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    page = tmp_path / 'report.html'
    page.write_text(build_page(read_runs([write_run(tmp_path / 'x', 0), write_run(tmp_path / 'y', 0, rate=0.1)])))
    browser.get(page.as_uri())
    backs = []
    for width, scheme in ((390, 'dark'), (1400, 'light')):
        features = [{'name': 'prefers-color-scheme', 'value': scheme}]
        browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': features})
        size = {'width': width, 'height': 900, 'deviceScaleFactor': 1, 'mobile': width < 500}
        browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
        assert browser.execute_script('return document.documentElement.scrollWidth') == width
        backs.append(browser.execute_script('return getComputedStyle(document.body).backgroundColor'))
    assert backs == ['rgb(13, 17, 23)', 'rgb(255, 255, 255)']
    summary = browser.find_element('css selector', 'summary')
    summary.send_keys(Keys.ENTER)
    assert browser.execute_script('return document.querySelector("details").open')
    assert browser.get_log('browser') == []
