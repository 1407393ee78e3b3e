"""The HTTP interface: upload, jobs, results, plugins, health. Routes only; what a request passes first is ``guard``."""

from __future__ import annotations

import logging
import sqlite3
from typing import Annotated, Any

from fastapi import Depends, FastAPI, File, Form, Header, HTTPException, Path, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from anymc3d.errors import UploadError, UsageError
from anymc3d.explain.folder import file_name
from anymc3d.serve.guard import Guard, address_of, problem
from anymc3d.serve.jobs import DONE, ERROR, LATEST, Job, QueueFullError
from anymc3d.serve.links import decided, links_of
from anymc3d.serve.node_settings import OBJECTS
from anymc3d.serve.pages import add_pages
from anymc3d.serve.service import Service, new_job
from anymc3d.serve.sessions import Sessions
from anymc3d.serve.stow import add_stow
from anymc3d.serve.uploads import DiskFullError, checked_case, store_file
from anymc3d.version import __version__

logger = logging.getLogger(__name__)

NOTICE = "Research use only. Not a medical device."
PROBLEM = "application/problem+json"
DICOM = "application/dicom"
JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
Key = Annotated[
    str | None,
    Header(
        pattern=r"^[!-~]{1,100}$",
        description="of the sender's choice; a study sent again under it is the same job, not a second one",
    ),
]
PluginName = Annotated[str | None, Query(max_length=100)]
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9._=+-]{1,200}$")]
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "content": {PROBLEM: {}}}
    for code, text in {
        400: "the request cannot be understood",
        404: "there is no such job or result",
        409: "the job has not ended",
        413: "the body is too large",
        415: "the body is of another type",
        422: "the request cannot be used",
        503: "too many studies are waiting, or the disk is full",
    }.items()
}


def make_app(service: Service) -> Guard:
    """The application around a service."""
    app = FastAPI(
        title="anymc3d", version=__version__, description=NOTICE, docs_url=None, redoc_url=None, responses=_PROBLEMS
    )
    _add_problems(app)
    _add_upload(app, service)
    _add_jobs(app, service)
    _add_results(app, service)
    _add_operations(app, service)
    add_stow(app, service)
    sessions = Sessions(service.settings.token)
    add_pages(app, sessions)
    return Guard(app, service.settings, sessions, service.metrics.refused)


def _add_problems(app: FastAPI) -> None:
    def answer(
        status: int, detail: str, headers: dict[str, str] | None = None, code: str | None = None
    ) -> JSONResponse:
        return JSONResponse(problem(status, detail, code), status, headers=headers, media_type=PROBLEM)

    @app.exception_handler(StarletteHTTPException)
    async def refused(_: Request, error: StarletteHTTPException) -> Response:
        return answer(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        places = [".".join(str(part) for part in fault["loc"][1:]) or str(fault["loc"][0]) for fault in error.errors()]
        texts = [f"{place}: {fault['msg']}" for place, fault in zip(places, error.errors(), strict=True)]
        return answer(422, "; ".join(texts)[:500])

    @app.exception_handler(QueueFullError)
    async def full(_: Request, error: QueueFullError) -> Response:
        return answer(503, str(error), {"retry-after": "30"}, error.code)

    @app.exception_handler(DiskFullError)
    async def no_room(_: Request, error: DiskFullError) -> Response:
        return answer(503, str(error), {"retry-after": "600"}, error.code)

    @app.exception_handler(sqlite3.OperationalError)
    async def unwritable(_: Request, error: sqlite3.OperationalError) -> Response:
        logger.error("the queue cannot be used: %s", error)
        return answer(503, "the queue of this service cannot be written now; is its disk full?", code="E-disk-full")

    @app.exception_handler(Exception)
    async def internal(_: Request, error: Exception) -> Response:
        logger.error("internal error: %s", type(error).__name__, exc_info=error)
        return answer(500, "an internal error; the log of the service says more", code="E-internal")

    @app.exception_handler(UsageError)
    async def unusable(_: Request, error: UsageError) -> Response:
        return answer(422, str(error), code=error.code)


def _add_upload(app: FastAPI, service: Service) -> None:
    @app.post("/v1/jobs", status_code=202, summary="Send one scan or study", dependencies=[Depends(_one_file)])
    def create(
        request: Request,
        file: Annotated[UploadFile, File(description="a .nii.gz, a multi-frame .dcm, or a .zip of a DICOM study")],
        case: Annotated[str | None, Form(description="an id of your own; never an identifier of a patient")] = None,
        plugins: Annotated[str | None, Form(description="names, separated by commas; default: all")] = None,
        series: Annotated[str | None, Form(max_length=500, description="which DICOM series, as --series")] = None,
        idempotency_key: Key = None,
    ) -> JSONResponse:
        key = None if idempotency_key is None else f"http {idempotency_key}"
        known = None if key is None else service.jobs.job_of(key)
        if known is not None:
            return _accepted(known)
        job_id = new_job()
        name = checked_case(case) if case else job_id
        names = service.checked_plugins([text.strip() for text in (plugins or "").split(",") if text.strip()])
        path = store_file(file.file, service.folder(job_id) / "input")
        facts = {"source": "http", "case": name, "scan": path, "series": series or None, "plugins": names}
        accepted_id = ""
        try:
            accepted_id = service.submit(job_id=job_id, **facts, key=key, once=True, by=_who(request))
        finally:
            if accepted_id != job_id:  # it was not accepted, or was before
                service.remove_files(job_id)
        return _accepted(accepted_id)


def _add_jobs(app: FastAPI, service: Service) -> None:
    @app.get("/v1/jobs", summary="The newest jobs")
    def listing(
        count: Annotated[int, Query(ge=1, le=500)] = 100, before: Annotated[int | None, Query(ge=1, le=LATEST)] = None
    ) -> JSONResponse:
        jobs = [brief_of(job) for job in service.jobs.latest(count, before=before)]
        return JSONResponse({"jobs": jobs, "counts": service.jobs.counts()})

    @app.get("/v1/jobs/{job_id}", summary="One job: its state, and its rows once it has ended")
    async def one(job_id: JobId, wait: Annotated[float, Query(ge=0, le=60)] = 0) -> JSONResponse:
        job = await service.ended(job_id, wait)
        return JSONResponse(_whole(_there(job), service.jobs.deliveries.of(job_id)))

    @app.delete("/v1/jobs/{job_id}", status_code=204, summary="Remove a job with all its files")
    def remove(job_id: JobId, request: Request) -> Response:
        if not service.remove(job_id):
            raise HTTPException(404, "there is no such job")
        service.jobs.audit.note(_who(request), "removed a study", job_id)
        return Response(status_code=204)


def _add_results(app: FastAPI, service: Service) -> None:
    def file_of(job_id: str, name: str | None, ending: str, media_type: str, request: Request) -> Response:
        job = _there(service.jobs.get(job_id))
        if job.state not in (DONE, ERROR):
            raise HTTPException(409, f"the job is {job.state}", {"retry-after": "1"})
        known = [file for file in job.record.get("files", ()) if file.endswith(ending)]
        chosen = name if name is not None else (known[0] if known else "")
        path = service.file_of(job, chosen) if chosen in known else None
        if path is None:
            raise HTTPException(404, f"there is no such result; there are: {', '.join(known) or 'none'}")
        service.jobs.audit.note(_who(request), f"read {ending.removeprefix('.')}", job_id)
        headers = {"content-security-policy": _REPORT_POLICY} if ending == ".html" else None
        return FileResponse(path, media_type=media_type, headers=headers)

    @app.get("/v1/jobs/{job_id}/report", summary="The report as one HTML file", response_class=Response)
    def report(job_id: JobId, request: Request, plugin: PluginName = None) -> Response:
        name = None if plugin is None else f"{file_name(plugin)}.html"
        return file_of(job_id, name, ".html", "text/html; charset=utf-8", request)

    @app.get("/v1/jobs/{job_id}/heatmaps/{name}", summary="A heatmap as NIfTI", response_class=Response)
    def heatmap(job_id: JobId, name: Name, request: Request) -> Response:
        return file_of(job_id, name, ".nii.gz", "application/gzip", request)

    @app.get("/v1/jobs/{job_id}/sr", summary="The answers as a DICOM structured report", response_class=Response)
    def structured_report(job_id: JobId, request: Request) -> Response:
        return file_of(job_id, None, OBJECTS["sr"], DICOM, request)

    @app.get("/v1/jobs/{job_id}/dicom/{name}", summary="A DICOM object of the study", response_class=Response)
    def dicom_object(job_id: JobId, name: Name, request: Request) -> Response:
        return file_of(job_id, name, ".dcm", DICOM, request)


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.get("/v1/plugins", summary="The resident plugins")
    def plugins() -> JSONResponse:
        return JSONResponse({"plugins": list(service.plugins), "notice": NOTICE})

    @app.get("/healthz", summary="Whether the process lives", response_class=PlainTextResponse)
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok")

    @app.get("/readyz", summary="Whether studies are being answered", response_class=PlainTextResponse)
    async def readyz() -> PlainTextResponse:
        supervisor = service.supervisor
        why = "the worker is starting" if supervisor.fault is None else "no study can be taken any longer, see the log"
        return PlainTextResponse("ready" if supervisor.is_ready else why, 200 if supervisor.is_ready else 503)

    @app.get("/metrics", summary="Numbers for Prometheus", response_class=PlainTextResponse)
    def metrics() -> PlainTextResponse:
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/drift", summary="The answers of the last weeks against the plugins' training data")
    def drift() -> JSONResponse:
        return JSONResponse(service.drift.current())

    @app.get("/v1/audit", summary="Who did what, newest first")
    def audit(count: Annotated[int, Query(ge=1, le=10_000)] = 1000) -> JSONResponse:
        return JSONResponse({"lines": service.jobs.audit.lines(count)})


_REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; "
    "sandbox allow-scripts allow-downloads"
)
"""A report holds its own script and pictures; in a sandbox, so that it can reach nothing of this service."""


async def _one_file(request: Request) -> None:
    """The route would be given the last of several, and the sender believe that all are read."""
    count = len((await request.form()).getlist("file"))
    if count > 1:
        raise UploadError(f"file: expected one, got {count}; send each by itself, or a .zip of one DICOM study")


def _accepted(job_id: str) -> JSONResponse:
    return JSONResponse({"id": job_id}, 202, headers={"location": f"/v1/jobs/{job_id}"})


def _there(job: Job | None) -> Job:
    if job is None:
        raise HTTPException(404, "there is no such job")
    return job


def brief_of(job: Job) -> dict[str, Any]:
    """What the list of jobs says of one."""
    keys = ("number", "id", "case", "source", "message", "received", "started", "finished")
    warned = any(row.get("status") == "warn" for row in job.rows)
    unlike = sorted(job.record.get("unlike_training", ()))
    summary = {
        "status": job.state,
        "asked": [row["plugin"] for row in job.rows],
        "decided": decided(job),
        "warned": warned,
        "unlike_training": unlike,
        "no_answer": [row["plugin"] for row in job.rows if row["status"] == "error"],
    }
    return summary | {key: getattr(job, key) for key in keys}


def _whole(job: Job, deliveries: list[dict[str, Any]]) -> dict[str, Any]:
    record = {key: value for key, value in job.record.items() if key != "files"}
    names = list(job.record.get("files", ()))
    rest = {"rows": list(job.rows), "files": names, "links": links_of(job.id, names)}
    return brief_of(job) | rest | {"deliveries": deliveries, "record": record}


def _who(request: Request) -> str:
    """For the audit log: the address, and the name that a proxy vouches for."""
    address = address_of(request)
    user = request.headers.get("x-forwarded-user", "")
    safe = "".join(letter for letter in user if letter.isalnum() or letter in "._@-")[:64]
    return f"{address} {safe}".strip()
