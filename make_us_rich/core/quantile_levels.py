"""The probabilities of the quantiles of every forecast. Apart from `distribution`: the client has no NumPy."""

QUANTILE_LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
