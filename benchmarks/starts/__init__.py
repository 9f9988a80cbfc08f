"""The processes of each contestant's group: they have imported everything, and start at a word."""
