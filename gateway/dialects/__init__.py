"""Bytes ⇄ words: one package per dialect, strangers to each other. No I/O."""
