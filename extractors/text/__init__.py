"""The words: lexicon, hashing and pretrained encoders."""
