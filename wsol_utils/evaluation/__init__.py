"""What we may say: boxes, metrics, statistics and claims."""
