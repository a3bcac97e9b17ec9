"""What every app may use: errors, time, identifiers, JSON documents, queue, logs, metrics."""
