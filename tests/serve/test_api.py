"""Upload, answer, results; the answers are those of ``predict``."""

import gzip
import io
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from waiting import ended

from anymc3d.predict.predictor import load
from anymc3d.serve.api import brief_of


def send(client, content, name="scan.nii.gz", **fields):
    return client.post("/v1/jobs", files={"file": (name, content)}, data=fields)


def test_E6_E7_a_scan_is_answered_as_predict_answers_it(client, journey):
    scan = journey.scans[1]
    sent = send(client, scan.read_bytes(), case="case-7")
    assert sent.status_code == 202 and sent.headers["location"] == f"/v1/jobs/{sent.json()['id']}"
    job = ended(client, sent.json()["id"])
    expected = load(journey.plugin, device="cpu").predict(scan, case="case-7")
    (row,) = job["rows"]
    assert (job["status"], job["case"], row["status"]) == ("done", "case-7", expected.status)
    assert row["logit.block"] == pytest.approx(expected.logits["block"], abs=1e-6)
    assert row["probability.block"] == pytest.approx(expected.probabilities["block"], abs=1e-6)
    assert row["decision.block"] == expected.decisions["block"]
    assert len(job["record"]["scans"]) == 1 and len(job["record"]["plugins"]["block"]) == 64


def test_a_study_in_the_list_says_which_plugins_gave_no_answer(service, client, journey):
    job = service.jobs.get(ended(client, send(client, journey.scans[1].read_bytes()).json()["id"])["id"])
    assert (brief_of(job)["asked"], brief_of(job)["no_answer"]) == (["block"], [])
    rows = [*job.rows, {"case": "c", "plugin": "other", "status": "error", "message": "damaged"}]
    listed = brief_of(replace(job, rows=rows))
    assert (listed["status"], listed["asked"], listed["no_answer"]) == ("done", ["block", "other"], ["other"])


def test_results_are_a_report_and_heatmaps_on_the_scans_grid(client, journey):
    job = ended(client, send(client, journey.scans[1].read_bytes()).json()["id"])
    report = client.get(f"/v1/jobs/{job['id']}/report")
    assert report.status_code == 200 and "viewer-data" in report.text
    assert "sandbox" in report.headers["content-security-policy"]
    (name,) = [name for name in job["files"] if name.endswith(".nii.gz")]
    heatmap = client.get(f"/v1/jobs/{job['id']}/heatmaps/{name}")
    image, scan = nib.Nifti1Image.from_bytes(gzip.decompress(heatmap.content)), nib.load(journey.scans[1])
    assert image.shape == scan.shape and np.allclose(image.affine, scan.affine)
    assert client.get(f"/v1/jobs/{job['id']}/heatmaps/{name[:-3]}x").status_code == 404
    assert client.get(f"/v1/jobs/{job['id']}/report", params={"plugin": "other"}).status_code == 404


def test_a_damaged_scan_is_an_error_with_a_reason_and_the_next_is_answered(client, journey):
    content = bytearray(journey.scans[0].read_bytes())
    content[len(content) // 2] ^= 0xFF
    job = ended(client, send(client, bytes(content)).json()["id"])
    assert job["status"] == "error" and "damaged" in job["message"] and job["rows"][0]["status"] == "error"
    assert ended(client, send(client, journey.scans[0].read_bytes()).json()["id"])["status"] == "done"


@pytest.mark.parametrize(
    ("content", "fields", "status", "text"),
    [
        (b"", {}, 422, "it is empty"),
        (b"hello" * 100, {}, 422, "this is something else"),
        (b"\x1f\x8b" + b"0" * 500, {"case": "../../x"}, 422, "case: expected 1 to 64"),
        (b"\x1f\x8b" + b"0" * 500, {"plugins": "blok"}, 422, "did you mean 'block'?"),
        (b"\x1f\x8b" + b"0" * 6_000_000, {}, 413, "expected at most"),
    ],
)
def test_what_cannot_be_used_is_refused_with_problem_details(client, service, content, fields, status, text):
    before = sum(service.jobs.counts().values())
    answer = send(client, content, **fields)
    assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"
    assert text in answer.json()["detail"] and answer.json()["status"] == status
    assert sum(service.jobs.counts().values()) == before
    folders = {path.name for path in (service.settings.store / "jobs").glob("??/*")}
    assert len(folders) <= before


def test_jobs_are_listed_and_can_be_removed_with_their_files(client, service, journey):
    job_id = send(client, journey.scans[2].read_bytes()).json()["id"]
    ended(client, job_id)
    assert client.get("/v1/jobs").json()["jobs"][0]["id"] == job_id
    assert service.folder(job_id).is_dir()
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert not service.folder(job_id).exists()
    assert client.get(f"/v1/jobs/{job_id}").status_code == 404
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 404


def test_health_readiness_plugins_and_metrics(client):
    assert client.get("/healthz").text == "ok" and client.get("/readyz").text == "ready"
    (plugin,) = client.get("/v1/plugins").json()["plugins"]
    assert [doubt.split(",")[0] for doubt in plugin["doubts"]][:1] == ["not shown to be better than chance"]
    assert plugin["name"] == "block" and plugin["labels"] == ["block"]
    text = client.get("/metrics").text
    assert 'anymc3d_jobs{state="done"}' in text and "anymc3d_ready 1" in text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1:80.evil.example"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"content-encoding": "gzip"}, 415),
    ],
)
def test_E2_other_names_other_sites_and_compressed_bodies_are_refused(client, headers, status):
    answer = client.get("/v1/plugins", headers=headers)
    assert answer.status_code == status and answer.json()["status"] == status


@pytest.mark.parametrize(
    "path", ["/v1/jobs/..%2f..%2fetc", "/v1/jobs/x", "/v1/jobs/" + "a" * 33, "/etc/passwd", "/v1/jobs/%00"]
)
def test_E8_no_path_of_a_client_is_opened(client, path):
    assert client.get(path).status_code in (404, 422)


def test_of_several_files_none_is_left_out_in_silence(client, service, journey):
    before = sum(service.jobs.counts().values())
    files = [("file", (path.name, path.read_bytes())) for path in journey.scans[:3]]
    answer = client.post("/v1/jobs", files=files)
    assert answer.status_code == 422 and "expected one, got 3; send each by itself" in answer.json()["detail"]
    assert sum(service.jobs.counts().values()) == before


def test_a_number_that_no_job_has_is_no_internal_error(client):
    assert client.get("/v1/jobs", params={"before": 10**22}).status_code == 422
    assert client.get("/v1/jobs", params={"before": 2**53}).status_code == 200


def test_every_answer_bears_the_headers_of_safety(client):
    for path in ("/healthz", "/v1/jobs", "/nothing", "/v1/jobs/x"):
        headers = client.get(path).headers
        assert (
            headers["x-content-type-options"] == "nosniff"
            and "default-src 'none'" in headers["content-security-policy"]
        )
        assert "server" not in headers


def test_a_body_in_pieces_is_cut_at_the_limit(client, service):
    def pieces():
        yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\n'
        for _ in range(100):
            yield b"0" * 100_000

    answer = client.post("/v1/jobs", content=pieces(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 413
    assert io.BytesIO(answer.content).read(1) == b"{"
