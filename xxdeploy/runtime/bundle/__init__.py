"""The bundle on disk: manifest, hashes, signature, arrays and labels."""
