"""A stand-in for Discord's webhook API: prints what would be posted.

    python -m infra.discord --port 28901

POST /api/webhooks/{id}/{token} answers as Discord does, or with the next answer that `PUT /_control/answer` set.
GET  /_control/messages returns everything posted so far; tests read it.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def create_app() -> Starlette:
    messages: list[dict[str, Any]] = []
    planned_failures: list[dict[str, Any]] = []

    async def webhook(request: Request) -> Response:
        if planned_failures:
            failure = planned_failures.pop(0)
            headers = {"Retry-After": str(failure["retry_after_s"])} if "retry_after_s" in failure else {}
            body = {"message": "a planned failure", "retry_after": failure.get("retry_after_s", 0)}
            return JSONResponse(body, failure["status"], headers)
        message = await _message(request)
        messages.append(message)
        print(f"would post to Discord: {_readable(message)}", flush=True)
        if request.query_params.get("wait"):
            return JSONResponse({"id": str(len(messages))})
        return Response(status_code=204)

    async def fail_next(request: Request) -> Response:
        planned_failures.extend(await request.json())
        return Response(status_code=204)

    async def read_messages(request: Request) -> Response:
        return JSONResponse(messages)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "posted": len(messages)})

    return Starlette(
        routes=[
            Route("/api/webhooks/{id}/{token}", webhook, methods=["POST"]),
            Route("/_control/answer", fail_next, methods=["PUT"]),
            Route("/_control/messages", read_messages),
            Route("/healthz", health),
        ]
    )


async def _message(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").startswith("application/json"):
        body: dict[str, Any] = await request.json()
        return body
    async with request.form() as form:
        payload: dict[str, Any] = json.loads(str(form["payload_json"]))
        return payload


def _readable(message: dict[str, Any]) -> str:
    parts = [message.get("content") or ""]
    for embed in message.get("embeds", []):
        parts.append(embed.get("title") or "")
        parts.append(embed.get("description") or "")
        parts.extend(f"  {field['name']}: {field['value']}" for field in embed.get("fields", []))
    return "\n".join(part for part in parts if part)


def main() -> None:
    parser = argparse.ArgumentParser(description="prints what would be posted to Discord")
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(create_app(), host="127.0.0.1", port=parser.parse_args().port, access_log=False)


if __name__ == "__main__":
    main()
