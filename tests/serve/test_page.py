"""The page in a real browser: upload, answer, heatmap; nothing in the console, nothing from elsewhere."""

import pytest
from browser import axe_findings, console_errors, start_browser

from anymc3d.serve.pages import OWN_FILES, static_files

COLOURED = """
const canvas = document.querySelector(".plane canvas"), context = canvas.getContext("2d");
const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
let count = 0;
for (let i = 0; i < pixels.length; i += 4) count += Math.abs(pixels[i] - pixels[i + 2]) > 40;
return count;
"""
"""Pixels of the first plane that are not grey."""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    started = start_browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.quit()


def until(driver, script, timeout_s=90):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, timeout_s, 0.1).until(lambda _: driver.execute_script(f"return {script}"))


def test_upload_answer_and_heatmap_without_a_complaint(driver, url, journey):
    from selenium.webdriver.common.by import By

    driver.get(url)
    until(driver, "document.getElementById('files')")
    assert axe_findings(driver) == []
    driver.find_element(By.ID, "files").send_keys(str(journey.scans[1]))
    driver.find_element(By.ID, "case").send_keys("page-1")
    driver.find_element(By.CSS_SELECTOR, ".drop button").click()
    until(driver, "[...document.querySelectorAll('#jobs a')].some((link) => link.textContent === 'page-1')")
    driver.find_element(By.LINK_TEXT, "page-1").click()
    until(driver, "document.documentElement.dataset.viewer === 'ready'")
    text = driver.find_element(By.TAG_NAME, "main").text
    for words in (
        "Case page-1",
        "Answers of all plugins",
        "Operating point",
        "Report of block (HTML)",
        "Attention along",
    ):
        assert words in text
    driver.execute_script("document.getElementById('cross').click()")
    with_heatmap = driver.execute_script(COLOURED)
    driver.execute_script(
        "const o = document.getElementById('opacity'); o.value = 0; o.dispatchEvent(new Event('input'));"
    )
    assert with_heatmap > 100 and driver.execute_script(COLOURED) == 0
    assert axe_findings(driver) == []
    loaded = driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(loaded) > 8 and all(name.startswith((f"{url}/", "data:")) for name in loaded)
    assert console_errors(driver) == []


@pytest.mark.parametrize("content", [b"hello" * 100], ids=["no scan"])
def test_a_refused_file_says_why(driver, url, tmp_path, content):
    from selenium.webdriver.common.by import By

    (tmp_path / "<b>x.nii.gz").write_bytes(content)
    driver.get(f"{url}/#/")
    driver.refresh()
    until(driver, "document.getElementById('files')")
    driver.find_element(By.ID, "files").send_keys(str(tmp_path / "<b>x.nii.gz"))
    driver.find_element(By.CSS_SELECTOR, ".drop button").click()
    until(driver, "document.getElementById('said').textContent.includes('this is something else')")
    assert "<b>x.nii.gz" in driver.find_element(By.ID, "said").text


def test_a_phone_needs_no_scrolling_to_the_side(driver, url):
    driver.set_window_size(390, 844)
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    for place in ("#/", "#/service"):
        driver.get(f"{url}/{place}")
        until(driver, "document.querySelector('main h1')")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 390


def test_the_page_is_of_own_files_without_inline_script(client):
    answer = client.get("/")
    assert answer.status_code == 200 and "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe-inline" not in answer.headers["content-security-policy"]
    for name in static_files():
        if name != "index.html":
            found = client.get(f"/static/{name}")
            assert found.status_code == 200 and found.headers["x-content-type-options"] == "nosniff"
    assert client.get("/static/other.js").status_code == 404
    assert client.get("/static/..%2fguard.js").status_code in (404, 422)
    text = b"".join(static_files()[name] for name in OWN_FILES).decode()
    assert "innerHTML" not in text and "http://" not in text.replace("http://www.w3.org/2000/svg", "")
