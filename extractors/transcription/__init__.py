"""From sound to words: speech recognition where there is no transcript."""
