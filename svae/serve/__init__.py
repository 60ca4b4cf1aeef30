"""`svae serve`: speech over HTTP, as OpenAI's interface has it, and a page to try it on."""
