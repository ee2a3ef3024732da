"""MLflow's tracking server behind one password, confined to its artifact store.

    python -m infra.mlflow_server --host 127.0.0.1 --port 5000 --artifacts-destination s3://mlflow

`mlflow server` lets anyone in, and an experiment may name any folder of the server as its place of artifacts. MLflow's
own basic-auth app is marked experimental, keeps its users in a database where a changed setting does not reach them,
hashes a password on each request, and still lets a user name any folder. Here:

app.py        the ASGI app: HTTP basic authentication, no assistant, no artifacts outside of the store
__main__.py   starts it; the addresses of the database and of S3 come from MLflow's own variables
"""
