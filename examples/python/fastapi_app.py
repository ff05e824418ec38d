"""A FastAPI service for Countersign's users: `COUNTERSIGN_URL=https://… uvicorn fastapi_app:app`."""

import os
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from countersign import Refused, Verifier

verifier = Verifier(
    os.environ["COUNTERSIGN_URL"],
    audience=os.environ.get("COUNTERSIGN_AUDIENCE"),
    feed_token=os.environ.get("COUNTERSIGN_FEED_TOKEN"),
    unreachable_after=float(os.environ.get("COUNTERSIGN_UNREACHABLE_AFTER", 30)),
    when_unreachable=os.environ.get("COUNTERSIGN_WHEN_UNREACHABLE", "refuse"),
)


@asynccontextmanager
async def lifespan(_):
    await run_in_threadpool(verifier.start)
    yield


app = FastAPI(lifespan=lifespan)


# On the event loop: it takes a fraction of a millisecond, and waits for nobody.
async def current_user(request: Request):
    shown = request.headers
    return verifier.authenticate(request.method, shown.get("Authorization"), shown.get("X-CSRFToken"))


User = Annotated[dict, Depends(current_user)]


@app.exception_handler(Refused)
async def refuse(_, refused):
    kind = "application/problem+json"
    return JSONResponse(refused.problem, refused.status, refused.headers, media_type=kind)


@app.get("/me")
async def me(user: User):
    return {"id": user["user_id"]}


@app.post("/orders", status_code=201)
async def order(user: User):
    return {"ordered_by": user["user_id"]}
