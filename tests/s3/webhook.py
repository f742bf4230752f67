"""What the receiver of a webhook does with the library of the specification, and its sender.

webhook.py verify reads an object of secret, headers and body, and prints the payload or the error; webhook.py sign
reads one of secret, id and body, and prints the headers.
"""

import datetime
import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def verify(secret, headers, body):
    try:
        return {"payload": Webhook(secret).verify(body, headers)}
    except WebhookVerificationError as error:
        return {"error": str(error)}


def sign(secret, id, body):
    now = datetime.datetime.now(tz=datetime.timezone.utc)
    signature = Webhook(secret).sign(msg_id=id, timestamp=now, data=body)
    return {"webhook-id": id, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}


print(json.dumps({"verify": verify, "sign": sign}[sys.argv[1]](**json.load(sys.stdin))))
