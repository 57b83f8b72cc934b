"""What a person touches: the command line, the configuration, the dashboard and the summaries."""
