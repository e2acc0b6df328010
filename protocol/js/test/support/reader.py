"""A reader of event streams with httpx-sse, as its documentation shows it: prints every event as a line of JSON."""

import json
import sys
import time

import httpx
from httpx_sse import connect_sse

last_event_id, pause = "", 1.0
with httpx.Client(timeout=30) as client:
    while True:
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        try:
            with connect_sse(client, "GET", sys.argv[1], headers=headers) as source:
                for event in source.iter_sse():
                    last_event_id = event.id
                    if event.retry is not None:
                        pause = event.retry / 1000
                    print(json.dumps({"type": event.event, "data": event.data}), flush=True)
        except httpx.TransportError:
            pass
        time.sleep(pause)
