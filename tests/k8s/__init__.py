"""The Kubernetes helper."""
