"""How it is made to run: settings, store, weights, notebooks, pages and the command line."""
