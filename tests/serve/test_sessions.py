"""A service with a token: the header of a program, the cookie of a browser, and nothing else."""

from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from anymc3d.serve import sessions as module
from anymc3d.serve.api import make_app
from anymc3d.serve.jobs import JobStore
from anymc3d.serve.sessions import COOKIE, Sessions
from anymc3d.serve.settings import ServeSettings

TOKEN = "a-token-of-some-length"
ORIGIN = "http://127.0.0.1"


@pytest.fixture
def client(tmp_path):
    settings = ServeSettings(plugins=("p",), store=tmp_path, token=TOKEN, host="127.0.0.1")
    jobs = JobStore(tmp_path / "q.sqlite3")
    service = SimpleNamespace(
        settings=settings, jobs=jobs, plugins=[], remove=lambda _: False, metrics=SimpleNamespace(refused=print)
    )
    with TestClient(make_app(service), base_url=ORIGIN) as one:
        yield one
    jobs.close()


def test_E1_a_browser_signs_in_once_and_its_cookie_is_out_of_reach_of_scripts(client):
    assert client.get("/").status_code == client.get("/static/app.js").status_code == 200
    assert client.get("/v1/jobs").status_code == 401
    assert client.post("/v1/session", json={"token": "wrong"}).status_code == 401
    signed = client.post("/v1/session", json={"token": TOKEN})
    cookie = signed.headers["set-cookie"]
    assert signed.status_code == 204 and TOKEN not in cookie
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and "Max-Age" not in cookie
    assert client.get("/v1/jobs").status_code == 200
    assert client.delete("/v1/session", headers={"origin": ORIGIN}).status_code == 204
    assert client.get("/v1/jobs").status_code == 401


def test_a_cookie_changes_nothing_without_the_origin_of_this_service(client):
    client.post("/v1/session", json={"token": TOKEN})
    path = f"/v1/jobs/{'a' * 32}"
    assert client.delete(path).status_code == 401
    assert client.delete(path, headers={"origin": "http://evil.example"}).status_code == 403
    assert client.delete(path, headers={"origin": "null"}).status_code == 403
    assert client.delete(path, headers={"origin": ORIGIN}).status_code == 404


@pytest.mark.parametrize("header", ["Bearer wrong", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer \xe9"])
def test_another_header_is_refused_and_the_token_is_taken(client, header):
    assert client.get("/v1/jobs", headers={"authorization": header.encode("latin-1")}).status_code == 401
    assert client.get("/v1/jobs", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get("/v1/jobs", headers={"cookie": f"{COOKIE}=made-up"}).status_code == 401


def test_sessions_end(monkeypatch):
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(module, "MAX_SESSIONS", 2)
    kept = Sessions(TOKEN)
    first, second, third = (kept.begin(TOKEN) for _ in range(3))
    assert kept.begin("other") is None
    assert [kept.is_open(name) for name in (first, second, third)] == [False, True, True]
    now += module.LIFE_S
    assert not kept.is_open(third)
