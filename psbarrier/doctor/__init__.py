"""What an operator wants to know of an etcd before, and when, a job does not start."""
