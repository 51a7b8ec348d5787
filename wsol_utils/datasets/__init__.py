"""What is looked at: scenes, photographs and data sets."""
