"""What was served and how it turned out: outcomes of forecasts, scores, drift, the track record and its daily log."""
