"""MLflow's tracking server with a password, confined to its artifact store.

    python -m infra.mlflow_server --host 127.0.0.1 --port 5000 --artifacts-destination s3://mlflow

`mlflow server` has no authentication, and an experiment may use any folder of the server as its artifact store.
MLflow's own basic-auth app is marked experimental, keeps its users in a database that a changed setting does not reach,
hashes a password on each request, and still lets a user name any folder. Here:

app.py        the ASGI app: HTTP basic authentication, no assistant, no artifacts outside of the store
__main__.py   starts it; MLflow's own variables hold the addresses of the database and of S3
"""
