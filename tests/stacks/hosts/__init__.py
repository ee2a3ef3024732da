"""The installation on several hosts, which are network namespaces on this machine; the tests share one cluster."""
