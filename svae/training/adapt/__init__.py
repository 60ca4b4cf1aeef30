"""`svae adapt`: recordings of one person become an adapter, with which a TTS model speaks like that person."""
