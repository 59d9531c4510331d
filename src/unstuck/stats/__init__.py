"""A tensor in, a fixed-size summary out, in one pass; nothing here knows about models or steps."""
