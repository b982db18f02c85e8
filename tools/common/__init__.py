"""What all programs share: command lines, checkpoint files, threads, processes, memory, plots."""
