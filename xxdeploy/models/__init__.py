"""The catalog of networks, and the families that keras.applications lacks."""
