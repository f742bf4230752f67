"""What a user does with boto3: one JSON object per line says what, one per line comes back.

The end of standard input ends it. Where the keys are it learns as every program with boto3 does, from the environment.
"""

import functools
import json
import sys

import boto3
from botocore.client import Config


@functools.cache
def client(endpoint):
    # The signature that S3 asks for; for an endpoint of one's own, boto3 presigns with the one before it.
    return boto3.client("s3", endpoint_url=endpoint, config=Config(signature_version="s3v4"))


def create(s3, bucket):
    s3.create_bucket(Bucket=bucket)


def put(s3, bucket, key, path):
    s3.upload_file(path, bucket, key)


def get(s3, bucket, key, path):
    s3.download_file(bucket, key, path)


def delete(s3, bucket, key):
    s3.delete_object(Bucket=bucket, Key=key)


def keys(s3, bucket, prefix):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def presign(s3, bucket, key, method, seconds):
    return s3.generate_presigned_url(method, Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds)


def answer(do, endpoint, **arguments):
    doings = {"create": create, "put": put, "get": get, "delete": delete, "keys": keys, "presign": presign}
    try:
        return {"done": doings[do](client(endpoint), **arguments)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


for line in sys.stdin:
    print(json.dumps(answer(**json.loads(line))), flush=True)
