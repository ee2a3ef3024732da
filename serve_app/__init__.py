"""The HTTP API: a gateway and one forecaster a pair, each a Ray Serve application. No torch, pandas or mlflow here."""
