"""The reference of the HTTP API, from its OpenAPI document."""

from __future__ import annotations

from typing import Any

from make_us_rich.accounts import Accounts
from make_us_rich.core.settings import Settings
from serve_app.gateway.app import make_app
from serve_app.gateway.replica_client import ServeReplicaClient

_HEAD = """# HTTP reference

Made from the API's own OpenAPI document, which a running service gives at `/openapi.json` and shows at `/docs`.
[The API page](../api.md) tells how to use it.
"""


def http_api_page() -> str:
    document = openapi()
    parts = [_HEAD]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts += _operation(method.upper(), path, operation)
    parts.append("## Documents\n")
    for name, schema in document["components"]["schemas"].items():
        parts += _schema(name, schema)
    return "\n".join(parts) + "\n"


def openapi() -> dict[str, Any]:
    settings = Settings()
    accounts = Accounts(settings.database_url.get_secret_value())  # connects at its first use
    document: dict[str, Any] = make_app(settings, ServeReplicaClient(), accounts).openapi()
    return document


def _operation(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    lines = [f"## `{method} {path}`\n", f"{operation.get('summary', '')}.\n"]
    if "description" in operation:
        lines.append(operation["description"] + "\n")
    if operation.get("parameters"):
        lines += ["| parameter | in | type | meaning |", "|---|---|---|---|"]
        lines += [_parameter(parameter) for parameter in operation["parameters"]]
        lines.append("")
    if "requestBody" in operation:
        lines.append(f"Body: {_content(operation['requestBody'])}\n")
    lines += ["| status | answers | document |", "|---|---|---|"]
    for status, response in operation["responses"].items():
        lines.append(f"| {status} | {response.get('description', '')} | {_content(response)} |")
    return [*lines, ""]


def _parameter(parameter: dict[str, Any]) -> str:
    schema = parameter.get("schema", {})
    required = ", required" if parameter.get("required") else ""
    meaning = parameter.get("description", schema.get("description", ""))
    return f"| `{parameter['name']}` | {parameter['in']}{required} | {_type(schema)} | {meaning} |"


def _content(of: dict[str, Any]) -> str:
    return ", ".join(
        f"{_type(content.get('schema', {}))} as `{media}`" for media, content in of.get("content", {}).items()
    )


def _schema(name: str, schema: dict[str, Any]) -> list[str]:
    lines = [f"### {name}\n"]
    if "description" in schema:
        lines.append(schema["description"] + "\n")
    if schema.get("properties"):
        lines += ["| field | type | meaning |", "|---|---|---|"]
        for field, of in schema["properties"].items():
            lines.append(f"| `{field}` | {_type(of)} | {of.get('description', '')} |")
        lines.append("")
    return lines


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "anything"))
