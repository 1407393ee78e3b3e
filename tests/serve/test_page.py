"""The page in a real browser: upload, answer, heatmap; nothing in the console, nothing from elsewhere."""

import socket
import threading
from types import SimpleNamespace

import pytest
import uvicorn
from browser import axe_findings, console_errors, start_browser

import dicom_makers as dicom
from anymc3d.serve.jobs import JobStore
from anymc3d.serve.pages import OWN_FILES, static_files
from anymc3d.serve.server import configured
from anymc3d.serve.settings import ServeSettings

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
    # Found and clicked in one go: the list is drawn anew while the study is answered.
    link = "[...document.querySelectorAll('#jobs a')].find((link) => link.textContent === 'page-1')"
    until(driver, f"((link) => {{ link?.click(); return Boolean(link); }})({link})")
    until(driver, "document.documentElement.dataset.viewer === 'ready'")
    text = driver.find_element(By.TAG_NAME, "main").text
    for words in (
        "Case page-1",
        "Answers of all plugins",
        "At or above its operating point",
        "Report of block (HTML)",
        "Attention along",
    ):
        assert words in text
    letter = driver.find_element(By.CSS_SELECTOR, ".frame .top")
    assert letter.text == "A" and letter.size["height"] < 30  # no style of the page over the viewer's
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


def test_the_files_of_a_dicom_study_are_sent_as_one(driver, url, tmp_path):
    from selenium.webdriver.common.by import By

    names = []
    for number, slice_ in enumerate(dicom.make_series(sop_class=dicom.MR).slices):
        names.append(str(tmp_path / f"IM{number}"))
        (tmp_path / f"IM{number}").write_bytes(dicom.content(slice_))
    driver.get(f"{url}/#/")
    driver.refresh()
    until(driver, "document.getElementById('files')")
    driver.find_element(By.ID, "case").send_keys("page-dicom")
    driver.find_element(By.ID, "files").send_keys("\n".join(names))
    driver.find_element(By.CSS_SELECTOR, ".drop button").click()
    row = "[...document.querySelectorAll('#jobs tr')].find((row) => row.textContent.includes('page-dicom'))"
    assert until(driver, f"{row}?.querySelector('.done, .error')?.textContent") == "done"
    assert f"Accepted: {len(names)} files as one study." in driver.find_element(By.ID, "said").text
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


@pytest.fixture
def guarded(tmp_path):
    """Where a service with a token answers; it has no worker."""
    settings = ServeSettings(plugins=("p",), store=tmp_path, token="a-token-of-some-length")
    jobs, metrics = JobStore(tmp_path / "q.sqlite3"), SimpleNamespace(refused=lambda _: None)
    service = SimpleNamespace(settings=settings, jobs=jobs, plugins=[], metrics=metrics)
    opened = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(configured(service))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    jobs.close()


def test_a_browser_is_asked_for_the_token_once(driver, guarded):
    from selenium.webdriver.common.by import By

    driver.get(guarded)
    until(driver, "document.getElementById('token')")
    assert axe_findings(driver) == []
    for words, shown in (("wrong", "not the token"), ("a-token-of-some-length", "")):
        driver.find_element(By.ID, "token").clear()
        driver.find_element(By.ID, "token").send_keys(words)
        driver.find_element(By.CSS_SELECTOR, ".login button").click()
        until(driver, f"document.getElementById('said').textContent.includes('{shown}')")
    until(driver, "document.getElementById('files')")
    driver.refresh()
    until(driver, "document.getElementById('files')")
    assert not driver.execute_script("return document.cookie") and "token" not in driver.current_url
    driver.find_element(By.ID, "sign-out").click()
    until(driver, "document.getElementById('token')")
    assert not driver.find_element(By.ID, "sign-out").is_displayed()


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
