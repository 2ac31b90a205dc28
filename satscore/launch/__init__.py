"""Being a parent properly: spawn, signals, exit status. Standard library only."""
