"""The control-plane database: tables, sessions, the event and audit logs. Knows no slice above it."""
