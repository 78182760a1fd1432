"""Our own dialect, for people and their machines: health now, the admin REST later."""
