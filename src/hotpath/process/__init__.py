"""What the kernel does to a process: fork, signals, locks."""
