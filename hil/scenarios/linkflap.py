"""The cable is pulled and put in while records go to a server on the host that speaks as Kinesis does."""

import base64
import json
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lab.scenario import equal, holds

NEEDS = {"network"}
RECORDS = 3000

CONFIG = """{
  "dataDir": "/data/store", "runDir": "/run/forebay",
  "streams": [{"name": "telemetry",
    "sink": {"type": "kinesis", "streamName": "flaps", "region": "eu-central-1", "endpointUrl": "http://10.0.2.2:PORT",
             "credentials": {"type": "static", "accessKeyId": "AKIDEXAMPLE", "secretAccessKey": "no secret"}, REQUESTS},
    "delivery": {"backoffBaseMs": 100, "backoffMaxMs": 1000}}],
  "inputs": [{"type": "stdin", "stream": "telemetry"}]
}"""


class Server(ThreadingHTTPServer):
    """Takes what PutRecords brings, and refuses every tenth record once."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.taken, self.requests, self.lock, self.chance = [], 0, threading.Lock(), random.Random(5)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    """PutRecords in JSON, as the service's reference describes it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):  # noqa: N802, the name is the library's
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server, answers = self.server, []
        with server.lock:
            server.requests += 1
            for record in body["Records"]:
                if server.chance.random() < 0.1:
                    answers.append({"ErrorCode": "InternalFailure", "ErrorMessage": "try again"})
                else:
                    server.taken.append(base64.b64decode(record["Data"]).decode())
                    answers.append({"SequenceNumber": str(len(server.taken)), "ShardId": "shardId-000000000000"})
        failed = sum("ErrorCode" in answer for answer in answers)
        text = json.dumps({"FailedRecordCount": failed, "Records": answers}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def run(lab, board):
    server = Server()
    board.prepare(64)
    board.start(network=True)
    board.put(CONFIG.replace("PORT", str(server.server_port)).replace("REQUESTS", '"requestTimeoutMs": 2000'), "/tmp/forebay.json")
    board.sh(f"(seq {RECORDS} | while read n; do echo $n; [ $((n % 50)) = 0 ] && usleep 100000; done "
             "| forebay run /tmp/forebay.json >/dev/console 2>&1; echo RUN-ENDED >/dev/console) &")
    flaps = 20 if lab.long else 4
    silent = 0
    for _ in range(flaps):
        time.sleep(1.5)
        board.link(False)
        # What had arrived by then is counted.
        time.sleep(0.5)
        before = server.requests
        time.sleep(1)
        silent += server.requests == before
        board.link(True)
    cut_short = len(set(server.taken))
    wanted = {str(n) for n in range(1, RECORDS + 1)}
    end = time.monotonic() + 240
    while not wanted <= set(server.taken) and time.monotonic() < end:
        time.sleep(0.5)
    # What the end of the input left is delivered by the next run.
    board.sh("while pidof forebay >/dev/null; do sleep 1; done; "
             "[ ! -d /data/store ] || timeout 60 forebay run /tmp/forebay.json </dev/null >/dev/console 2>&1 || true")
    board.stop()
    server.shutdown()
    equal("records that never came", len(wanted - set(server.taken)), 0)
    equal("times that nothing came while the link was down", silent, flaps)
    holds("records waited for the link", cut_short < RECORDS)
    lab.figure("flaps", flaps)
    lab.figure("requests", server.requests)
    lab.figure("records that came twice", len(server.taken) - len(wanted))
    lab.figure("lost", 0)
