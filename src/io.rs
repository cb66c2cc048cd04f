//! Reads and writes medical images; the format is recognised by content, not by name.
