"""How etcd is read and written; nothing here knows what the keys mean."""
