"""FastAPI by hand: `uvicorn fastapi_app:app`, with the network's file in NETWORK."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from network import Network

app = FastAPI()
network = Network(os.environ["NETWORK"])


@app.post("/classify")
async def classify(request: Request) -> dict[str, Any]:
    """Answer the image that is the request's body."""
    return await run_in_threadpool(network.classify, await request.body())
