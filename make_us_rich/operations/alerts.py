"""Messages to Discord: short enough for a phone, with every secret masked. A failed post never raises.

Each is recorded in Postgres with its outcome; the admin page lists them. At most MOST_AN_HOUR are posted in an
hour, whatever posts them, because a channel that is flooded is muted.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import httpx
import requests
from discord_webhook import DiscordEmbed, DiscordWebhook
from pydantic import SecretStr

from make_us_rich.core.responses import read_retry_after
from make_us_rich.core.settings import Settings
from make_us_rich.database import alerts as alerts_table
from make_us_rich.database.pool import Database

log = logging.getLogger(__name__)

MOST_AN_HOUR = 60
RED = "d64545"
GREEN = "2f9e62"
_TIMEOUT_S = 5.0
_RETRY_AFTER_S = 1.0
_MAX_RETRY_AFTER_S = 10.0
_NOTHING = "–"  # Discord refuses an empty text
_MIN_SECRET_CHARS = 6  # a shorter one would mask ordinary words
# Discord's limits: https://discord.com/developers/docs/resources/message#embed-object-embed-limits
_MAX_TITLE_CHARS = 256
_MAX_TEXT_CHARS = 1500
_MAX_FIELD_CHARS = 1024
_MAX_QUOTED_CHARS = 400
_MOST_WAITING = 100


@dataclass(frozen=True)
class Alert:
    title: str
    text: str
    fields: Mapping[str, str] = field(default_factory=dict)
    link: str | None = None
    color: str = RED


def quoted(text: str) -> str:
    """Return foreign text, such as an answer of the exchange, so that Discord and the admin page show it as it is.

    In a code span nothing is markdown: no link, no mention, no picture.
    """
    plain = " ".join(text.replace("`", "'").split())
    return f"`{plain[:_MAX_QUOTED_CHARS]}{'…' if len(plain) > _MAX_QUOTED_CHARS else ''}`" if plain else _NOTHING


def post(alert: Alert, settings: Settings) -> bool:
    """Post to the webhook of the settings; return False if there is none or the post failed. Never raises.

    Blocks until Discord answered, half a minute at worst. Only Airflow calls it, where nobody waits: the last task of a
    run, which ends with its process and remembers whether the message was posted, and a thread of the triggerer. A
    service calls `post_soon`.
    """
    shown = Alert(
        title=_clean(alert.title, settings, _MAX_TITLE_CHARS),
        text=_clean(alert.text, settings, _MAX_TEXT_CHARS),
        fields={name: _clean(value, settings, _MAX_FIELD_CHARS) for name, value in alert.fields.items()},
        link=alert.link,
        color=alert.color,
    )
    problem = _over_the_limit(settings) or _problem_of_posting(shown, settings)
    if problem:
        log.warning("this alert is not posted: %s: %s", shown.title, problem)
    try:
        with Database.from_settings(settings) as database:
            alerts_table.record(database, shown.title, shown.text, problem)
    except Exception:  # Postgres may be what the alert is about
        log.exception("this alert could not be recorded: %s", shown.title)
    return problem is None


def post_soon(alert: Alert, settings: Settings) -> None:
    """Post in a thread of this process, one alert after the other. Never raises, never blocks.

    Drops the alert, with a line in the log, while very many wait for a Discord that is slow.
    """
    try:
        _waiting.put_nowait((alert, settings))
    except queue.Full:
        log.error("this alert is dropped, because %d wait to be posted: %s", _MOST_WAITING, alert.title)
        return
    with _start_once:
        global _thread
        if _thread is None:
            _thread = threading.Thread(target=_post_waiting, name="alerts", daemon=True)
            _thread.start()


_waiting: queue.Queue[tuple[Alert, Settings]] = queue.Queue(_MOST_WAITING)
_start_once = threading.Lock()
_thread: threading.Thread | None = None


def _post_waiting() -> None:
    while True:
        alert, settings = _waiting.get()
        try:
            post(alert, settings)
        finally:
            _waiting.task_done()


def _over_the_limit(settings: Settings) -> str | None:
    """Return why no more is posted in this hour, or None. Without Postgres nothing is known of the hour."""
    try:
        with Database.from_settings(settings) as database:
            posted = alerts_table.posted_in_the_last_hour(database)
    except Exception:  # Postgres may be what the alert is about
        return None
    return f"{posted} messages were posted in the last hour, the most" if posted >= MOST_AN_HOUR else None


def _problem_of_posting(alert: Alert, settings: Settings) -> str | None:
    """Post; return why it did not work, or None."""
    url = settings.discord_webhook_url.get_secret_value()
    if not url:
        return "MUR_DISCORD_WEBHOOK_URL is empty"
    try:
        return _send(alert, url)
    except Exception as error:  # an alert that cannot be posted must not fail the run
        return f"posting failed: {type(error).__name__}"  # its message has the webhook's token


def _send(alert: Alert, url: str) -> str | None:
    answer = _ask(alert, url)
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.status_code >= 500:
        told_s = read_retry_after(answer.headers.get("Retry-After"))
        time.sleep(min(_RETRY_AFTER_S if told_s is None else told_s, _MAX_RETRY_AFTER_S))
        answer = _ask(alert, url)
    if answer.status_code == httpx.codes.BAD_REQUEST and alert.link:
        # Discord refuses a link to a host without a dot: the address is text then
        answer = _ask(replace(alert, text=f"{alert.text}\n{alert.link}".strip(), link=None), url)
    return None if answer.ok else f"Discord answered {answer.status_code}"


def _ask(alert: Alert, url: str) -> requests.Response:
    embed = DiscordEmbed(
        title=alert.title, description=alert.text.strip() or _NOTHING, color=alert.color, url=alert.link
    )
    for name, value in alert.fields.items():
        embed.add_embed_field(name, value.strip() or _NOTHING, inline=True)
    webhook = DiscordWebhook(url=url, timeout=_TIMEOUT_S)
    webhook.add_embed(embed)
    # The library's own rate_limit_retry has no upper limit.
    answer: requests.Response = webhook.api_post_request()
    return answer


def _clean(text: str, settings: Settings, max_chars: int) -> str:
    """Mask the secrets of the settings, and cut the text to `max_chars`; of several lines, at the end of one.

    A line that is cut could end in the middle of a quoted text, which would be markdown then.
    """
    for secret in _secrets(settings):
        text = text.replace(secret, "***")
    if len(text) <= max_chars:
        return text
    cut = text[: max_chars - 1]
    whole, newline, _ = cut.rpartition("\n")
    return f"{whole}{newline}…" if whole else f"{cut.replace('`', chr(39))}…"


def _secrets(settings: Settings) -> list[str]:
    values = (getattr(settings, name) for name in type(settings).model_fields)
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    return [secret for secret in secrets if len(secret) >= _MIN_SECRET_CHARS]
