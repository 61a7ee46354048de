"""Where rewards run (in this process, in worker processes, on Ray), how they are asked, and kept apart from the run."""
