"""Ties it together: strategies ask for venues and instruments; the engine connects, feeds, times, routes and stops."""
