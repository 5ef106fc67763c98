"""A server on loopback that speaks S3, in a thread of the test session (moto's), and addresses of new runs on it."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

# No real ones: the server takes any. Without the last line a machine of Amazon's would be asked for some.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test-user",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def set_credentials() -> None:
    """For this process and those it starts; Ray's have those of the process that starts Ray."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextmanager
def running_server() -> Iterator[str]:
    """Its endpoint, `http://127.0.0.1:PORT`."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def new_address(endpoint: str) -> str:
    """The address of a folder that is not there yet, in a new bucket."""
    import boto3

    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/runs/x?endpoint_override={endpoint}&region=us-east-1"
