"""From input ports to published data sets: graph, ingest, models, runs."""
