"""Messages to Discord: short enough for a phone, with every secret masked. A failed post never raises.

Each is recorded in Postgres with what came of it; the admin page lists them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
from discord_webhook import DiscordEmbed, DiscordWebhook
from pydantic import SecretStr

from make_us_rich.core.retry_after import read_retry_after
from make_us_rich.core.settings import Settings
from make_us_rich.database import alerts as alerts_table
from make_us_rich.database.pool import Database

log = logging.getLogger(__name__)

RED = "d64545"
GREEN = "2f9e62"
_TIMEOUT_S = 5.0
_RETRY_AFTER_S = 1.0
_MAX_RETRY_AFTER_S = 10.0
_MIN_SECRET_CHARS = 6  # a shorter one would mask ordinary words
# Discord's limits: https://discord.com/developers/docs/resources/message#embed-object-embed-limits
_MAX_TITLE_CHARS = 256
_MAX_TEXT_CHARS = 1500
_MAX_FIELD_CHARS = 1024


@dataclass(frozen=True)
class Alert:
    title: str
    text: str
    fields: Mapping[str, str] = field(default_factory=dict)
    link: str | None = None
    color: str = RED


def post(alert: Alert, settings: Settings) -> bool:
    """Post to the webhook of the settings; return False if there is none or the post failed. Never raises."""
    shown = Alert(
        title=_clean(alert.title, settings, _MAX_TITLE_CHARS),
        text=_clean(alert.text, settings, _MAX_TEXT_CHARS),
        fields={name: _clean(value, settings, _MAX_FIELD_CHARS) for name, value in alert.fields.items()},
        link=alert.link,
        color=alert.color,
    )
    problem = _problem_of_posting(shown, settings)
    if problem:
        log.warning("this alert is not posted: %s: %s", shown.title, problem)
    try:
        with Database.from_settings(settings) as database:
            alerts_table.record(database, shown.title, shown.text, problem)
    except Exception:  # Postgres may be what the alert is about
        log.exception("this alert could not be recorded: %s", shown.title)
    return problem is None


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
    embed = DiscordEmbed(title=alert.title, description=alert.text, color=alert.color, url=alert.link)
    for name, value in alert.fields.items():
        embed.add_embed_field(name, value, inline=True)
    webhook = DiscordWebhook(url=url, timeout=_TIMEOUT_S)
    webhook.add_embed(embed)
    # The library's own rate_limit_retry has no upper limit.
    answer = webhook.api_post_request()
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        told_s = read_retry_after(answer.headers.get("Retry-After"))
        time.sleep(min(_RETRY_AFTER_S if told_s is None else told_s, _MAX_RETRY_AFTER_S))
        answer = webhook.api_post_request()
    return None if answer.ok else f"Discord answered {answer.status_code}"


def _clean(text: str, settings: Settings, max_chars: int) -> str:
    """Mask the secrets of the settings, and cut the text to `max_chars`."""
    for secret in _secrets(settings):
        text = text.replace(secret, "***")
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def _secrets(settings: Settings) -> list[str]:
    values = (getattr(settings, name) for name in type(settings).model_fields)
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    return [secret for secret in secrets if len(secret) >= _MIN_SECRET_CHARS]
