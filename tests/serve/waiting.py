"""Waiting for the end of jobs."""


def ended(client, job_id):
    """The job when it has ended."""
    for _ in range(10):
        job = client.get(f"/v1/jobs/{job_id}", params={"wait": 30}).json()
        if job["status"] in ("done", "error"):
            return job
    raise AssertionError(f"the job did not end: {job}")
