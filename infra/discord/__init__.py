"""A stand-in for Discord's webhook door: prints what would be posted.

    python -m infra.discord --port 28901

POST /api/webhooks/{id}/{token} answers as Discord does, or what `PUT /_control/answer` asked for.
GET  /_control/messages gives everything posted so far; tests read it.
"""
