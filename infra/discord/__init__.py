"""A stand-in for Discord's webhook API: prints what would be posted.

    python -m infra.discord --port 28901

POST /api/webhooks/{id}/{token} answers as Discord does, or with the next answer that `PUT /_control/answer` set.
GET  /_control/messages returns everything posted so far; tests read it.
"""
