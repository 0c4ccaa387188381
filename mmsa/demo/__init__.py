"""The `demo` corpus: drawn people who talk, rendered on first use.

- `script`: the generative model: who says what, and which feelings words, voice and face express;
- `sentences`: transcripts of a wanted valence; `phones`: transcripts to timed speech sounds;
- `voice`: source-filter synthesis; `face` and `motion`: the drawn head and how it moves;
- `render`: one video file; `cache`: all of them, once, in parallel.
"""
