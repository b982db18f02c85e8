"""Code that all programs share: command lines, checkpoint files, threads, processes, memory and plots."""
