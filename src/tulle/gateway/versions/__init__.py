"""What the gateway was told, version by version: kept, compared, and put back in force."""
