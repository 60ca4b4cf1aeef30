"""Speaking: a loaded model, a voice, a text of any length."""
