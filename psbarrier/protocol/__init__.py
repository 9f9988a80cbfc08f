"""What is written to etcd and what it means. Pure: no IO, no clock, no threads."""
