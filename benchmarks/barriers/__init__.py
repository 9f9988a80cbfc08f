"""The parties of each contestant's barrier: processes that meet again and again."""
