"""DICOMweb in: instances stored by ``POST /dicom-web/studies`` or, of one study, ``/dicom-web/studies/{uid}`` (STOW-RS,
DICOM PS3.18 10.5), read as they stream in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from fastapi import FastAPI, HTTPException, Request
from fastapi import Path as InPath
from fastapi.responses import JSONResponse
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from anymc3d.serve.guard import address_of
from anymc3d.serve.incoming import MAX_FILES, Incoming, Kept, Line, RefusedFileError
from anymc3d.serve.service import Service

NO_ROOM, NOT_UNDERSTOOD = 0xA700, 0xC000
"""Failure reasons (DICOM PS3.18 I.2.2)."""
DICOM_JSON = "application/dicom+json"
StudyUid = Annotated[str, InPath(pattern=r"^[0-9.]{1,64}$")]


def add_stow(app: FastAPI, service: Service) -> None:
    """Add the two routes."""

    async def stored(request: Request, study: str | None) -> JSONResponse:
        received = await _received(request, service.incoming, f"stow {address_of(request)}", study)
        return JSONResponse(received.answer(), received.status, media_type=DICOM_JSON)

    @app.post("/dicom-web/studies", summary="Store DICOM instances (STOW-RS)", response_class=JSONResponse)
    async def store(request: Request) -> JSONResponse:
        return await stored(request, None)

    @app.post("/dicom-web/studies/{study}", summary="Store instances of this study", response_class=JSONResponse)
    async def store_in(request: Request, study: StudyUid) -> JSONResponse:
        return await stored(request, study)


class _Stored:
    """What became of the parts of one request."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []
        self.failed: list[RefusedFileError] = []

    @property
    def status(self) -> int:
        """200 all stored, 202 some, 409 none, 503 none because there is no room."""
        if not self.failed:
            return 200
        if self.kept:
            return 202
        return 503 if any(error.no_room for error in self.failed) else 409

    def answer(self) -> dict[str, Any]:
        """The response as DICOM JSON: what is stored, and why other parts are not."""
        stored = [
            {"00081150": _value("UI", instance.sop_class), "00081155": _value("UI", instance.sop_uid)}
            for instance in self.kept
        ]
        reasons = [NO_ROOM if error.no_room else NOT_UNDERSTOOD for error in self.failed]
        others = [{"00081197": _value("US", reason)} for reason in reasons]
        return {
            key: {"vr": "SQ", "Value": items} for key, items in (("00081199", stored), ("0008119A", others)) if items
        }


def _value(kind: str, value: str | int) -> dict[str, Any]:
    return {"vr": kind, "Value": [value]}


async def _received(request: Request, incoming: Incoming, source: str, study: str | None) -> _Stored:
    """Read a request to its end, part by part; where it names a study, instances of another are not stored.

    Raises:
        HTTPException: it is of another type, damaged, or there is no room for anything.
    """
    boundary = _boundary(request.headers.get("content-type", ""))
    line, stored, is_whole = incoming.opened(source, study), _Stored(), False
    parts = _Parts(incoming.temporary)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        async for piece in request.stream():
            parser.write(piece)
            await run_in_threadpool(_take, incoming, line, parts, stored)
        is_whole = parts.has_ended
    except MultipartParseError:
        raise HTTPException(400, "the body is not multipart with this boundary") from None
    finally:
        parts.close()
        await run_in_threadpool(incoming.closed, line, whole=is_whole)
    if not is_whole:
        raise HTTPException(400, "the body ends before its last boundary")
    if not stored.kept and not stored.failed:
        raise HTTPException(400, "the body has no part")
    return stored


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/related" or options.get(b"type", b"application/dicom") != b"application/dicom":
        raise HTTPException(415, 'expected multipart/related; type="application/dicom"')
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise HTTPException(400, "expected a boundary of 1 to 70 letters")
    return boundary


def _take(incoming: Incoming, line: Line, parts: _Parts, stored: _Stored) -> None:
    while parts.finished:
        path = parts.finished.pop(0)
        try:
            if len(stored.kept) + len(stored.failed) >= MAX_FILES:
                path.unlink(missing_ok=True)
                raise RefusedFileError("more files than this service takes")
            stored.kept.append(incoming.take(line, path))
        except RefusedFileError as error:
            incoming.refuse(line, error.reason)
            stored.failed.append(error)


class _Parts:
    """The parts of a body, each in a file of its own until it is taken."""

    def __init__(self, name: Callable[[], Path]) -> None:
        self._name, self._path = name, Path()
        self._file: BinaryIO | None = None
        self.finished: list[Path] = []
        self.has_ended = False

    def callbacks(self) -> Any:
        """For the parser."""
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }

    def close(self) -> None:
        """Remove what was not taken."""
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)
        for path in self.finished:
            path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self._path = self._name()
        self._file = self._path.open("xb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None
        self._file.write(data[start:end])

    def _end(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None
        self.finished.append(self._path)

    def _all(self) -> None:
        self.has_ended = True
