"""Each table that ships, made by one function: `python -m wsol_utils measure NAME`."""
