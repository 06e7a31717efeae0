"""OpenVINO: the session, and the passes over its graph."""
