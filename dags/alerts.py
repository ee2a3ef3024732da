"""Tell Discord which task failed, for which pair, and where to look."""

from __future__ import annotations

from airflow.sdk import Context

from make_us_rich.alerts import Alert, post
from make_us_rich.settings import get_settings


def task_failed(context: Context) -> None:
    """A failure callback: runs once per failed task or mapped index, after its last try."""
    instance = context["ti"]
    pair = _pair_of(context)
    error = context.get("exception")
    fields = {"DAG": instance.dag_id, "Task": instance.task_id, "Run": instance.run_id}
    if pair:
        fields["Pair"] = pair
    fields["Tries"] = str(instance.try_number)
    alert = Alert(
        title=f"{instance.task_id} failed" + (f" for {pair}" if pair else ""),
        text=f"{type(error).__name__}: {error}" if error else "It ended without an exception: see its log.",
        fields=fields,
        link=instance.log_url,
    )
    post(alert, get_settings())


def _pair_of(context: Context) -> str | None:
    """The pair that a mapped task works on."""
    arguments = getattr(context["task"], "op_kwargs", None) or {}
    item = next((value for value in arguments.values() if isinstance(value, dict) and "pair" in value), {})
    return item.get("pair")
