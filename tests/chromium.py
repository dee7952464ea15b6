"""Headless Chromium for tests of pages."""

import shutil
from typing import Any

import pytest


def open_chromium(logs: str) -> Any:
    """Return a browser of Selenium, which the caller quits; skip the test if Chromium is not installed.

    Args:
        logs: which log is kept, 'browser' or 'performance'.
    """
    from selenium import webdriver

    chromium, driver = shutil.which('chromium'), shutil.which('chromedriver')
    if not chromium or not driver:
        pytest.skip('chromium and chromedriver are not installed')
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--hide-scrollbars'):
        options.add_argument(argument)
    options.set_capability('goog:loggingPrefs', {logs: 'ALL'})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
