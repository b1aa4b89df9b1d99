"""memoaized: the command that runs web, worker, index and store together on this machine."""
