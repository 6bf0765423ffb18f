"""What the kernel does to a process: fork, signals, locks; and the server by which processes hear of each other."""
