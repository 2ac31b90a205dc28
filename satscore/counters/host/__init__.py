"""Reading the host: the command's processes and the node, from /proc and /sys, once a second."""
