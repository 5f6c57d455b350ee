"""Runs moto, an independent S3 server. Prints its URL and a key. With the argument `strict`, it checks the signatures
of its clients, but cannot serve signed URLs, which have no header that it could check."""

import os
import sys
import threading

if sys.argv[1:] == ["strict"]:
    # The first four requests create the user, its permissions, its key and the bucket. All others must be signed
    # with that key.
    os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "4"

import json

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "pictures"
ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
url = "http://{}:{}".format(*server.get_host_and_port())
anyone = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1", "endpoint_url": url}
iam = boto3.client("iam", **anyone)
iam.create_user(UserName="worker")
iam.put_user_policy(UserName="worker", PolicyName="storage", PolicyDocument=json.dumps(ALL))
key = iam.create_access_key(UserName="worker")["AccessKey"]
boto3.client("s3", **anyone).create_bucket(Bucket=BUCKET)
print(f"STORAGE {url} {BUCKET} {key['AccessKeyId']} {key['SecretAccessKey']}", flush=True)
threading.Event().wait()
