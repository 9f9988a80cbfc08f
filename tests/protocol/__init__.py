"""What is written to etcd: keys, records and views, on their own."""
