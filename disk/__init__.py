"""Files that survive a power cut, and the disk's errors in words. Every room may import this one."""
