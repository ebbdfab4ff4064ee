"""The kernel and other processes: what /proc says, what was copied, which host it is. Nothing here freezes."""
