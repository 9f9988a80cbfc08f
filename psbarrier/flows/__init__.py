"""What a process does, step by step, as generators that ask for IO and never do it themselves."""
