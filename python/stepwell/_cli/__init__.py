"""The command line behind `stepwell`: its verbs, and text for a terminal."""
