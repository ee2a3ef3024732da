"""`mkrich mcp` with the official client: the tools of an agent, over stdin and stdout of a real process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult
from typer.testing import CliRunner

from make_us_rich.agents import make_server
from make_us_rich.cli import app
from make_us_rich.client import Client as Api
from make_us_rich.core.errors import InputError
from tests.support.documentation import code_blocks
from tests.support.folders import traversable_folder
from tests.support.local_api import LocalApi, local_api

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def service() -> Iterator[LocalApi]:
    with traversable_folder() as folder, local_api(folder, ("btc_usdt", "eth_usdt")) as api:
        yield api


def test_an_agent_reads_forecasts_with_what_was_measured(service: LocalApi) -> None:
    user = service.accounts.users.create("agent's owner", "a password for tests")
    token = service.accounts.tokens.create(user.user_id, "agent")

    async def talk(agent: Client) -> None:
        tools = {tool.name: tool for tool in (await agent.list_tools()).tools}
        assert set(tools) == {"pairs", "forecast", "probability", "history"}
        assert all(tool.description and tool.output_schema and tool.annotations for tool in tools.values())
        assert "hardly its direction" in str(agent.instructions)

        assert _answer(await agent.call_tool("pairs")) == {"result": ["btc_usdt", "eth_usdt"]}

        answer = _answer(await agent.call_tool("forecast", {"pair": "btc_usdt", "horizons": [1, 24]}))
        assert [each["horizon"] for each in answer["forecast"]["horizons"]] == [1, 24]
        model = answer["forecast"]["model"]
        assert answer["measured"] == {key: model[key] for key in ("skill_vs_naive", "skill_margin", "coverage_80")}

        above = {"pair": "btc_usdt", "above": answer["forecast"]["last_close"], "horizon": 8}
        answer = _answer(await agent.call_tool("probability", above))
        assert 0.3 < answer["answer"]["probability"] < 0.7
        assert set(answer["measured"]) == {"skill_vs_naive", "skill_margin", "coverage_80"}

        answer = _answer(await agent.call_tool("history", {"pair": "eth_usdt", "limit": 5}))
        assert (answer["forecasts"], answer["served"], answer["served_inside_80"]) == ([], 0, 0)
        assert "measured" in answer

        assert "doge_usdt is not served" in _refusal(await agent.call_tool("forecast", {"pair": "doge_usdt"}))
        assert "give" in _refusal(await agent.call_tool("probability", {"pair": "btc_usdt", "above": 1, "below": 2}))
        assert "horizon" in _refusal(
            await agent.call_tool("probability", {"pair": "btc_usdt", "above": 1, "horizon": 25})
        )

    _talk({"MUR_API_URL": service.url, "MUR_TOKEN": token}, talk)
    assert service.accounts.quota.usage(user.user_id).used == 2


def test_what_an_agent_is_told_of_a_wrong_token_and_a_service_that_is_down(service: LocalApi) -> None:
    async def refusal(url: str) -> str:
        with Api(url, "mur_wrong") as api:
            async with Client(make_server(api)) as agent:
                return _refusal(await agent.call_tool("forecast", {"pair": "btc_usdt"}))

    assert "unknown or revoked" in asyncio.run(refusal(service.url))
    assert "http://127.0.0.1:9 cannot be reached" in asyncio.run(refusal("http://127.0.0.1:9"))


def test_an_agent_needs_a_token_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUR_TOKEN", raising=False)
    done = CliRunner().invoke(app, ["mcp"])
    assert isinstance(done.exception, InputError)
    assert "MUR_TOKEN" in str(done.exception)


def _talk(environment: dict[str, str], talk: Callable[[Client], Awaitable[None]]) -> None:
    """Let `talk` use the tools of `mkrich mcp`, whose shell has a proxy that it cannot use."""
    (page,) = code_blocks("docs/how-to/agents.md", "json")
    program = json.loads(page)["mcpServers"]["make-us-rich"]
    assert set(program["env"]) == set(environment)
    server = StdioServerParameters(
        command=str(Path(sys.executable).with_name(program["command"])),
        args=program["args"],
        env={"PATH": os.environ["PATH"], "ALL_PROXY": "socks5://127.0.0.1:9", **environment},
    )

    async def run() -> None:
        async with Client(stdio_client(server)) as agent:
            await talk(agent)

    asyncio.run(run())


def _answer(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, result.content
    return dict(result.structured_content or {})


def _refusal(result: CallToolResult) -> str:
    assert result.is_error, result.structured_content
    return str(result.content[0].text)
