"""What the eye gets: plots, widgets and tables."""
