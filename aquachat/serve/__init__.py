"""An OpenAI-compatible API over one model, and the web page that talks to it."""
