"""Who may do what, with reasons; masking; agreements."""
