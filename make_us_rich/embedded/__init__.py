"""The whole mission on one machine: real servers that come as wheels, on loopback, under one supervisor.

config.py        what a stack is: its market, folders and ports
secrets.py     made on the first start, kept in a file that only the user can read
environment.py the environment variables that connect the components
components.py  the programs: command, what each waits for, how it tells that it is ready
steps.py       what has to happen once between two starts: databases, buckets, accounts
unprivileged.py MLflow without root's rights, where root starts the stack
supervisor.py  supervisord (the `supervisor` package) keeps them running; this is our end of its XML-RPC
run.py         up, down, status, logs
"""
