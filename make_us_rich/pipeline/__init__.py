"""From a schedule to a served model: clients of Airflow and Ray, the training budget, the deployment of Ray Serve."""
