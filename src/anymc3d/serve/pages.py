"""The page at ``/``: its own files, and the sign-in of a browser. What it shows it asks of ``/v1`` like any client.

The three planes are those of the report: the page takes a report's elements and runs the report's viewer on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from anymc3d.page.plot_style import PLOT_STYLE
from anymc3d.page.style import STYLE
from anymc3d.report.study_page import STYLE as STUDY_STYLE
from anymc3d.report.viewer_script import VIEWER_SCRIPT, VIEWER_STYLE
from anymc3d.serve.sessions import COOKIE, Sessions, cookie_of

OWN_FILES = ("index.html", "page.css", "app.js", "dom.js", "queue.js", "service.js", "study.js", "zip.js")
TYPES: Mapping[str, str] = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}
StaticName = Annotated[str, Path(pattern=r"^[a-z]{1,20}\.(css|js)$")]


class Token(BaseModel):
    """What a browser signs in with."""

    token: str = Field(max_length=1000)


@cache
def static_files() -> Mapping[str, bytes]:
    """Every file of the page by its name."""
    folder = files("anymc3d.serve") / "page"
    own_files = {name: (folder / name).read_bytes() for name in OWN_FILES}
    style = STYLE + PLOT_STYLE + STUDY_STYLE + VIEWER_STYLE
    return own_files | {"report.css": style.encode(), "viewer.js": VIEWER_SCRIPT.encode()}


def add_pages(app: FastAPI, sessions: Sessions) -> None:
    """Add the routes of the page."""

    def answer(name: str) -> Response:
        content = static_files().get(name)
        if content is None:
            raise HTTPException(404, "there is no such file")
        return Response(content, media_type=TYPES[name.rpartition(".")[2]], headers={"cache-control": "no-cache"})

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return answer("index.html")

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: StaticName) -> Response:
        return answer(name)

    @app.post("/v1/session", status_code=204, summary="Sign a browser in: the token once, then a cookie")
    def sign_in(body: Token, request: Request) -> Response:
        name = sessions.begin(body.token)
        if name is None:
            raise HTTPException(401, "this is not the token of this service", {"www-authenticate": "Bearer"})
        secure = request.headers.get("origin", "").startswith("https://")
        response = Response(status_code=204)
        response.set_cookie(COOKIE, name, httponly=True, samesite="strict", secure=secure, path="/")
        return response

    @app.delete("/v1/session", status_code=204, summary="Sign a browser out")
    def sign_out(request: Request) -> Response:
        sessions.end(cookie_of(request.headers.get("cookie", "")))
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response
