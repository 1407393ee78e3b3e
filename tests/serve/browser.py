"""A real browser for the tests of the page; they are skipped where there is none."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SERIOUS = ("serious", "critical")


def start_browser(profile, width=1280, height=1000, *, dark=False):
    """A headless Chromium without a network of its own, and its driver."""
    pytest.importorskip("selenium", reason="needs selenium, of the extra 'test'")
    from selenium import webdriver

    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs Chromium and chromedriver (Debian: chromium, chromium-driver), which this machine lacks")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    words += [f"--user-data-dir={profile}", f"--window-size={width},{height}", "--disable-background-networking"]
    words += ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
    for word in words:
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    started.set_page_load_timeout(60)
    started.set_script_timeout(60)
    return started


def axe_findings(driver):
    """What axe-core calls serious or critical on the page as it is; skips where axe-core is not installed."""
    spec = find_spec("axe_core_python")
    if spec is None:
        pytest.skip("needs axe-core-python, of the extra 'test'")
    source = (Path(spec.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")
    driver.execute_script(source)
    found = driver.execute_async_script("const end = arguments[0]; axe.run().then((r) => end(r.violations));")
    return [
        f"{one['id']}: {one['help']}: {node['html'][:200]}"
        for one in found
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


def console_errors(driver):
    """What the console says is wrong since it was last asked."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
