"""Tests that need a training framework; each imports it in processes of its own, never here."""
