"""From wire to tape to disk and back: connections, capture sessions, import, replay, and the checks on all of them."""
