"""CPU per call of the HTTP API, by endpoint. The goal: a call without a charge costs at most ten cached forecasts.

    .venv/bin/python -m benchmarks.call_cost

CPU time, so that other load on the machine does not count: of the gateway's process, and of all processes of the
stack, less what they use while nobody calls. The calls of a row come one after the other, by a member or by a stranger.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import httpx
import psutil

from benchmarks.stack import replica_pids, serving_stack, settings_of
from make_us_rich.accounts import Accounts
from make_us_rich.core.responses import bearer
from make_us_rich.database.pool import Database
from make_us_rich.embedded.lifecycle import Stack, measure

PAIRS = ("btc_usdt", "eth_usdt", "chz_usdt")
CALLS, WARM_UP_CALLS, IDLE_S = 60, 5, 10
_JSON = {"Content-Type": "application/json"}
_PASSWORD = "a password for benchmarks"


@dataclass(frozen=True)
class Call:
    """A request of the table. `who`: "stranger" or the name of a user."""

    name: str
    path: str
    who: str = "member"
    method: str = "GET"
    body: bytes | None = None
    charged: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """CPU milliseconds of one call."""

    status: int
    gateway_ms: float
    stack_ms: float


def main() -> None:
    with serving_stack(PAIRS, MUR_CALLS_PER_MINUTE="100000") as stack:
        headers = _headers(stack)
        time.sleep(IDLE_S)  # a stack that has just started has more to do
        idle_ms = _idle_ms_a_second(stack)
        api = stack.config.url("api")
        print("| call | status | quota | gateway, CPU | whole stack, CPU |\n|---|---|---|---|---|")
        for call in _calls(api, headers["member"]):
            with httpx.Client(base_url=api, headers=headers.get(call.who, {}), timeout=60) as client:
                cost = _cost(stack, client, call, idle_ms)
            print(
                f"| {call.name} | {cost.status} | {1 if call.charged else 0} "
                f"| {cost.gateway_ms:.1f} ms | {cost.stack_ms:.1f} ms |",
                flush=True,
            )


def _headers(stack: Stack) -> dict[str, dict[str, str]]:
    """Create the users of the table: a member with enough calls, and one whose month is used up."""
    with Accounts(Database.from_settings(settings_of(stack))) as accounts:
        plans = sorted(accounts.admin.plans(), key=lambda plan: plan.monthly_calls)
        accounts.admin.set_monthly_calls(plans[0].name, 1, by="benchmark")
        accounts.admin.set_monthly_calls(plans[-1].name, 1_000_000, by="benchmark")
        headers = {}
        for name, plan in (("member", plans[-1]), ("used up", plans[0])):
            user = accounts.users.create(f"benchmark {name}", _PASSWORD)
            accounts.admin.set_plan(user.user_id, plan.name, by="benchmark")
            headers[name] = bearer(accounts.tokens.create(user.user_id, "benchmark"))
    return headers


def _calls(api: str, member: Mapping[str, str]) -> Iterator[Call]:
    with httpx.Client(base_url=api, headers=member, timeout=60) as client:
        etag = client.get("/v1/forecasts/btc_usdt").raise_for_status().headers["ETag"]
        candles = client.get("/v1/candles/btc_usdt?limit=1000").raise_for_status().json()
    own = json.dumps({"candles": candles}).encode()
    unknown = ",".join(f"a{number}_usdt" for number in range(100))
    yield Call("a cached forecast", "/v1/forecasts/btc_usdt", charged=True)
    yield Call("its 304", "/v1/forecasts/btc_usdt", headers={"If-None-Match": etag})
    path = "/v1/forecasts/btc_usdt"
    yield Call("a forecast from 1,000 own candles", path, method="POST", headers=_JSON, body=own, charged=True)
    yield Call("the same, month used up", path, "used up", method="POST", headers=_JSON, body=own)
    yield Call("the same, without a token", path, "stranger", method="POST", headers=_JSON, body=own)
    yield Call("a probability, month used up", "/v1/forecasts/btc_usdt/probability?above=1", "used up")
    yield Call("`/v1/forecasts?pairs=` with 100 unknown pairs", f"/v1/forecasts?pairs={unknown}")
    yield Call("an unknown pair", "/v1/forecasts/nobody_usdt")
    yield Call("`GET /v1/candles/{pair}?limit=1000`", "/v1/candles/btc_usdt?limit=1000")
    yield Call("`GET /v1/forecasts/{pair}/history?limit=1000`", "/v1/forecasts/btc_usdt/history?limit=1000")
    yield Call("`GET /v1/models/{pair}`", "/v1/models/btc_usdt")
    yield Call("`GET /v1/usage`", "/v1/usage")
    yield Call("`GET /readyz`", "/readyz", "stranger")


def _cost(stack: Stack, client: httpx.Client, call: Call, idle_ms_a_second: float) -> Cost:
    for _ in range(WARM_UP_CALLS):
        _send(client, call)
    gateway = psutil.Process(replica_pids(stack, "gateway")[0])
    gateway_ms, stack_ms, started = _cpu_ms(gateway), _stack_cpu_ms(stack), time.monotonic()
    for _ in range(CALLS):
        answer = _send(client, call)
    waited_s = time.monotonic() - started
    gateway_ms, stack_ms = _cpu_ms(gateway) - gateway_ms, _stack_cpu_ms(stack) - stack_ms
    return Cost(answer.status_code, gateway_ms / CALLS, (stack_ms - waited_s * idle_ms_a_second) / CALLS)


def _send(client: httpx.Client, call: Call) -> httpx.Response:
    return client.request(call.method, call.path, content=call.body, headers=call.headers)


def _idle_ms_a_second(stack: Stack) -> float:
    before = _stack_cpu_ms(stack)
    time.sleep(IDLE_S)
    return (_stack_cpu_ms(stack) - before) / IDLE_S


def _stack_cpu_ms(stack: Stack) -> int:
    return sum(measure(stack.config, _cpu_ms).values())


def _cpu_ms(process: psutil.Process) -> int:
    times = process.cpu_times()
    return round((times.user + times.system) * 1000)


if __name__ == "__main__":
    main()
