"""The voice: prosody, voice quality and spectrum."""
