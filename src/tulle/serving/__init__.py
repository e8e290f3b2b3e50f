"""From published data and models to answers: endpoints, packages, the worker process."""
