"""The notes on a server: the same bundle, on PostgreSQL, with any number of replicas."""
