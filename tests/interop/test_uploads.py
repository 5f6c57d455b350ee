"""Our uploads, checked with an independent storage service and client."""

import sys
import urllib.request
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from conftest import Program, built

HERE = Path(__file__).parent
PART = 16 * 1024 * 1024


class Storage(Program):
    def __init__(self, *args):
        super().__init__([sys.executable, HERE / "storage.py", *args])
        words = self.line("STORAGE ").split()
        self.url, self.bucket, self.id, self.secret = words[1:]
        keys = {"aws_access_key_id": self.id, "aws_secret_access_key": self.secret}
        self.client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **keys)
        self.config = {
            "endpointUrl": self.url,
            "bucketName": self.bucket,
            "accessId": self.id,
            "accessSecret": self.secret,
        }
        self.env = {
            "BUCKET_ENDPOINT_URL": self.url,
            "BUCKET_NAME": self.bucket,
            "BUCKET_ACCESS_KEY_ID": self.id,
            "BUCKET_SECRET_ACCESS_KEY": self.secret,
        }


@pytest.fixture
def storage(start):
    return start(Storage())


@pytest.fixture
def strict(start):
    """A storage service that refuses requests without a valid signature."""
    return start(Storage("strict"))


@pytest.fixture
def worker(platform, start):
    """Starts one of our workers, which uploads."""

    def begin(env):
        worker = start(Program([built("podwork-test-worker"), "upload"], {**platform.env, **env}))
        worker.line("is ready")
        return worker

    return begin


def content(size):
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.mark.parametrize("name, size", [("none.txt", 0), ("a b/ü+&.png", 1000), ("film.mp4", 2 * PART + 9)])
def test_other_clients_read_uploads(endpoint, storage, worker, name, size):
    worker(storage.env)
    job = endpoint.run({"input": {"name": name, "bytes": size}})
    url = job.output(timeout=60)
    there = storage.client.get_object(Bucket=storage.bucket, Key=f"{job.job_id}/{name}")
    assert there["Body"].read() == content(size)
    assert there["ContentType"] == {"t": "text/plain", "g": "image/png", "4": "video/mp4"}[name[-1]]
    assert urllib.request.urlopen(url).read() == content(size)
    assert "Uploads" not in storage.client.list_multipart_uploads(Bucket=storage.bucket)


def test_signature_matches_that_of_botocore(endpoint, storage, worker, monkeypatch):
    worker(storage.env)
    url = endpoint.run_sync({"name": "a b/ü+&.png", "bytes": 5}, timeout=30)
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert query["X-Amz-Expires"] == "604800"
    when = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: when)
    theirs = AWSRequest("GET", url.split("?")[0])
    keys = Credentials(storage.id, storage.secret)
    botocore.auth.S3SigV4QueryAuth(keys, "s3", "us-east-1", expires=604800).add_auth(theirs)
    signature = parse_qs(urlsplit(theirs.url).query)["X-Amz-Signature"][0]
    assert query["X-Amz-Signature"] == signature


def test_request_can_name_its_own_bucket(endpoint, storage, worker):
    worker({"RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS": "true"})
    job = endpoint.run({"input": {"name": "a", "bytes": 5}, "s3Config": storage.config})
    assert urllib.request.urlopen(job.output(timeout=30)).read() == content(5)


def test_missing_bucket_is_reported(endpoint, platform, storage, worker):
    worker({**storage.env, "BUCKET_NAME": "nowhere"})
    job = endpoint.run({"input": {"name": "a", "bytes": 5}})
    assert job.output(timeout=30) is None
    error = endpoint.rp_client.get(f"local/status/{job.job_id}")["error"]
    assert "the bucket does not exist" in error and storage.secret not in error


def test_service_accepts_our_signatures(endpoint, strict, worker):
    worker(strict.env)
    for name, size in [("a b/ü+&.png", 1000), ("film.mp4", PART + 1)]:
        job = endpoint.run({"input": {"name": name, "bytes": size}})
        assert job.output(timeout=60).startswith(strict.url)
        there = strict.client.get_object(Bucket=strict.bucket, Key=f"{job.job_id}/{name}")
        assert there["Body"].read() == content(size)


def test_wrong_secret_is_reported(endpoint, strict, worker):
    worker({**strict.env, "BUCKET_SECRET_ACCESS_KEY": "another"})
    job = endpoint.run({"input": {"name": "a", "bytes": 5}})
    assert job.output(timeout=30) is None
    error = endpoint.rp_client.get(f"local/status/{job.job_id}")["error"]
    assert "SignatureDoesNotMatch" in error and "another" not in error
